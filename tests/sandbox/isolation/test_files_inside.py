"""Files out of real sandboxes of every level, whatever their code does to its scratch folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel import RLM, FakeSandbox, ScriptedModel
from rlm_kernel.errors import InputError
from rlm_kernel.sandbox.isolation.levels import why_not
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.isolation.hostile import SMALL, descriptors
from tests.sandbox.lab import Lab, lab


@pytest.fixture(scope="module", params=["full", "landlock", "none"])
def module_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A sandbox of each level that this machine can play."""
    if missing := why_not(request.param):
        pytest.skip(missing)
    with lab(KernelSandbox(level=request.param, limits=SMALL)) as made:
        yield made


@pytest.fixture
def small(module_lab: Lab) -> Lab:
    """It, with an empty scratch folder."""
    module_lab.start()
    emptied = module_lab.run("""
import os, shutil
for name in os.listdir('.'):
    shutil.rmtree(name) if os.path.isdir(name) and not os.path.islink(name) else os.unlink(name)
""")
    assert emptied.status == "ok", emptied.text()
    return module_lab


def names(made: Lab) -> list[str]:
    return [file.name for file in made.wait(made.sandbox.files())]


def copy(made: Lab, to: Path, *wanted: str, force: bool = False) -> list[Path]:
    copies: list[Path] = made.wait(made.sandbox.copy_files(wanted, to, force=force))
    return copies


def test_what_the_code_wrote(small: Lab, tmp_path: Path) -> None:
    """It is listed and copied, by this user, with plain rights, from folders that only the sandbox's user may enter."""
    assert names(small) == []
    ran = small.run("""
os.makedirs('plots', mode=0o700)
with open('plots/a.bin', 'wb') as file:
    file.write(bytes(range(256)) * 1000)
open('b.csv', 'w').write('x,y')
os.chmod('b.csv', 0o4700)
""")
    assert ran.status == "ok", ran.text()
    copies = copy(small, tmp_path / "out", "plots/a.bin", "b.csv")

    assert names(small) == ["b.csv", "plots/a.bin"]
    assert copies[0].read_bytes() == bytes(range(256)) * 1000
    assert copies[1].read_text() == "x,y"
    assert {(path.stat().st_uid, path.stat().st_mode & 0o7133) for path in copies} == {(os.getuid(), 0)}


def test_while_a_cell_runs(small: Lab, tmp_path: Path) -> None:
    """Nothing waits for the code, and the code goes on."""
    running = small.begin("""
import time
open('early.txt', 'w').write('early')
print('ready')
while not os.path.exists('stop'):
    time.sleep(0.01)
    with open('grows.txt', 'a') as file:
        file.write('x' * 100)
""")
    for _ in range(20):
        assert "early.txt" in names(small)
        assert copy(small, tmp_path, "early.txt", force=True)[0].read_text() == "early"
        with contextlib.suppress(InputError):  # it grew in that moment, or is not there yet
            assert set(copy(small, tmp_path, "grows.txt", force=True)[0].read_text()) <= {"x"}

    assert not running.done()
    assert small.stop(running).status == "interrupted"


def test_traps(small: Lab, tmp_path: Path) -> None:
    """Pipes, sparse files, other names of a file, names with escapes; links, where the level lets the code make any."""
    ran = small.run("""
os.mkfifo('pipe') if hasattr(os, 'mkfifo') else None
with open('sparse', 'wb') as file:
    file.truncate(30 * 2**20)
open('first', 'w').write('first')
os.link('first', 'second')
open('red\\x1b[31m', 'w')
for target, name in (('/etc/passwd', 'link'), ('/', 'root')):
    try:
        os.symlink(target, name)
    except PermissionError:
        open(name, 'w')
""")
    assert ran.status == "ok", ran.text()
    listed = {file.name: file.refused for file in small.wait(small.sandbox.files())}

    assert listed.pop("sparse") == ""
    assert copy(small, tmp_path, "sparse")[0].stat().st_size == 30 * 2**20
    assert "red\\x1b[31m" in listed
    for name in ("pipe", "first", "second", "root/etc/passwd"):
        with pytest.raises(InputError):
            copy(small, tmp_path, name)
    if small.sandbox.level == "none":
        assert listed["link"] == listed["root"] == "a symbolic link"
    assert sorted(os.listdir(tmp_path)) == ["sparse"]


def test_a_folder_that_is_moved_away(small: Lab, tmp_path: Path) -> None:
    """The code may rename its scratch folder or put another in its place: the host keeps to the one that it opened."""
    small.run("open('mine.txt', 'w').write('mine')")
    small.run("""
here = os.getcwd()
try:
    os.rename(here, here + '-moved')
    os.mkdir(here)
    open(here + '/other.txt', 'w').write('other')
except OSError as error:
    print(error)
""")
    try:
        assert names(small) == ["mine.txt"]
        assert copy(small, tmp_path, "mine.txt")[0].read_text() == "mine"
    finally:
        small.wait(small.sandbox.shutdown())


def test_after_the_end(small: Lab, tmp_path: Path) -> None:
    """One line says that there is nothing any more; no descriptor keeps the folder."""
    small.wait(small.sandbox.shutdown())
    before = descriptors()
    small.start()
    small.run("open('x', 'w')")
    small.wait(small.sandbox.shutdown())

    for work in (small.sandbox.files(), small.sandbox.copy_files(["x"], tmp_path)):
        with pytest.raises(InputError, match="not running, so it has no files"):
            small.wait(work)
    assert descriptors() <= before


def test_a_kernel_that_dies(small: Lab, tmp_path: Path) -> None:
    """Its files are there until the sandbox is ended, and in the one that goes on from a copy."""
    small.run("open('x', 'w').write('kept')")
    assert small.run("os._exit(1)").status == "died"
    assert copy(small, tmp_path, "x")[0].read_text() == "kept"
    if small.wait(small.sandbox.resume()) is not None:
        assert names(small) == ["x"]
        assert small.say("open('x').read()") == "kept"
    small.wait(small.sandbox.shutdown())
    assert names(small.start()) == []


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`RLM.files` and `RLM.copy_files` do the same; without a target it is the working directory."""
    monkeypatch.chdir(tmp_path)
    code = "```repl\nopen('table.csv', 'w').write('a,b')\nSUBMIT(n=1)\n```"
    model = ScriptedModel([code])
    with RLM("-> n: int", model=model, sub_model=model) as rlm:
        with pytest.raises(InputError, match="not running"):
            rlm.files()
        assert rlm("Q").n == 1
        assert [(file.name, file.size, file.refused) for file in rlm.files()] == [("table.csv", 3, "")]
        assert rlm.copy_files("table.csv") == [tmp_path / "table.csv"]
        assert rlm.copy_files(["table.csv"], "more") == [tmp_path / "more/table.csv"]
        with pytest.raises(InputError, match="is there already"):
            rlm.copy_files("table.csv")
        assert rlm.copy_files("table.csv", force=True) == [tmp_path / "table.csv"]


def test_sandboxes_without_files(tmp_path: Path) -> None:
    """Those that have none to show say so in one line."""
    model = ScriptedModel([])
    with RLM("-> n: int", model=model, sub_model=model, sandbox=FakeSandbox()) as rlm:
        for ask in (rlm.files, lambda: rlm.copy_files("x", tmp_path)):
            with pytest.raises(InputError, match="FakeSandbox shows no files: hand them in as the answer"):
                ask()
