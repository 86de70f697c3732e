"""Which level is chosen, what is said where none can be had, and that a sandbox which does not hold never starts."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rlm_kernel.errors import InputError, SandboxError
from rlm_kernel.sandbox.isolation import levels, outset, provisioner
from rlm_kernel.sandbox.isolation.inside import landlock
from rlm_kernel.sandbox.isolation.levels import choose, why_not
from rlm_kernel.sandbox.isolation.policy import LEVELS, PROMISES, prefixes
from rlm_kernel.sandbox.isolation.provisioner import IsolatedProvisioner
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.lab import lab

SCRATCH_FILES = (
    r"/tmp/(scratch|home)/.*|/rlm-[^/]*/s[^/]*/.*|/dev/(null|urandom|pts/\d+)|pipe:.*|socket:.*|anon_inode:.*"
)


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """What was found out about this machine is forgotten, before and afterwards."""
    why_not.cache_clear()
    yield
    why_not.cache_clear()


def isolated(level: str) -> KernelSandbox:
    if missing := why_not(level):
        pytest.skip(missing)
    return KernelSandbox(level=level)


def children() -> set[int]:
    return {p.pid for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE}


def refused(sandbox: KernelSandbox) -> str:
    """What is said by a start that must fail; it leaves neither process nor folder."""
    before, folders = children(), set(Path(tempfile.gettempdir()).glob("rlm-*"))
    with lab(sandbox) as made:
        with pytest.raises(SandboxError) as error:
            made.start()
        psutil.wait_procs([psutil.Process(p) for p in children() - before], timeout=5)
        assert children() <= before
        assert set(Path(tempfile.gettempdir()).glob("rlm-*")) <= folders
    return str(error.value)


def test_auto_takes_the_best(asked_anew: None) -> None:
    """It is what `why_not` has nothing against, `none` never."""
    possible = [level for level in ("full", "landlock") if not why_not(level)]
    if not possible:
        pytest.skip("nothing can be had here")

    assert choose("auto") == possible[0]
    assert KernelSandbox().level == possible[0]
    assert PROMISES[possible[0]] in KernelSandbox().isolation


def test_without_bubblewrap(asked_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`full` says what to install; `auto` takes the next."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert why_not("full") == "bubblewrap is not installed (apt install bubblewrap, dnf install bubblewrap)"
    with pytest.raises(InputError, match="apt install bubblewrap"):
        choose("full")
    if not why_not("landlock"):
        assert choose("auto") == "landlock"


def test_what_to_install_for_more(asked_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sandbox of a lower level says in its words what would give a better one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if why_not("landlock"):
        pytest.skip("nothing can be had here")

    words = KernelSandbox().isolation
    assert words.startswith("landlock: ")
    assert words.endswith("bubblewrap is not installed (apt install bubblewrap, dnf install bubblewrap).")


@pytest.mark.parametrize("kernelspec", ["python3", "http://127.0.0.1:1/"])
def test_a_level_for_somebody_elses_kernel(kernelspec: str) -> None:
    """It would promise what nobody holds."""
    with pytest.raises(InputError, match="leave it away"):
        KernelSandbox(kernelspec, level="full")


def test_bubblewrap_that_may_not(asked_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in most containers: its own words are passed on, in one line, with where to look."""
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create\nnew namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = why_not("full")

    assert "No permissions to create new namespace" in said
    assert "\n" not in said


def test_bubblewrap_that_hangs(asked_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is waited for, but not for ever."""
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(levels, "_SECONDS", 0.2)

    assert why_not("full").startswith("bubblewrap does not run")


def test_without_landlock(asked_anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No isolation is chosen by itself: one line says why, and how to do without."""
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(InputError) as error:
        choose("auto")

    assert "Landlock" in str(error.value)
    assert "none" in str(error.value)
    assert "\n" not in str(error.value)
    assert choose("none") == "none"
    with pytest.raises(InputError, match="'landlock' cannot be had here"):
        KernelSandbox(level="landlock")


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "riscv64")])
def test_other_machines(asked_anew: None, monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    """Where nothing of this works it is refused as well."""
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)

    assert why_not("full")
    assert why_not("landlock")
    assert not why_not("none")


def test_levels_that_are_none() -> None:
    """A wrong word is told with the right ones."""
    with pytest.raises(InputError, match="auto, full, landlock, seatbelt, none"):
        choose("ful")
    assert set(PROMISES) == set(LEVELS)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("level", ["full", "landlock"])
def test_older_kernels(level: str, version: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what an older Landlock does not know, `full` holds all the same; `landlock` holds or does not start."""
    monkeypatch.setattr(IsolatedProvisioner, "newest_landlock", version)
    sandbox = isolated(level)
    own_user = os.getuid() == 0 and all(outset._open_to_all(Path(path)) for path in prefixes())
    if level == "landlock" and version < 6 and not own_user:
        assert "signalled" in refused(sandbox)
        return
    with lab(sandbox) as made, socket.create_server(("127.0.0.1", 0)) as server:
        made.start()
        server.setblocking(False)
        said = made.run(f"""
import os, socket
for attempt in (lambda: socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1),
      lambda: os.kill({os.getpid()}, 0),
                lambda: os.listdir({str(tmp_path)!r}), lambda: os.truncate(os.__file__, 10**6)):
    try:
        print('GOT', attempt())
    except OSError as error:
        print('refused', error)
""").text()

        assert "GOT" not in said
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("level", ["full", "landlock"])
def test_something_open(level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When what must not be read can be, the sandbox does not start, and says that word."""
    shared = Path(prefixes()[0])
    monkeypatch.setattr(outset, "_private", lambda readable: [str(tmp_path), str(shared)])
    said = refused(isolated(level))

    assert re.search(f"level '{level}' does not hold here: home can be read", said)


@pytest.mark.parametrize("level", ["full", "landlock"])
def test_a_layer_missing(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same when seccomp or Landlock could not be applied, or the process ends before it tells."""
    sources = outset._sources
    broken = {
        "seccomp": ("seccomp", "def install(", "def install(x):\n    raise OSError('refused')\ndef _unused("),
        "landlock": ("landlock", "def restrict(", "def restrict(*x):\n    raise OSError('refused')\ndef _unused("),
        "its process ended": ("lock", "def lock(", "def lock(x):\n    raise SystemExit('no')\ndef _unused("),
    }
    for word, (name, old, new) in broken.items():
        text = sources()[name].replace(old, new, 1)
        monkeypatch.setattr(outset, "_sources", lambda n=name, t=text: {**sources(), n: t})

        assert word in refused(isolated(level))


@pytest.mark.parametrize("level", ["full", "landlock"])
def test_a_process_that_says_nothing(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that neither tells nor ends is ended."""
    sources = outset._sources
    text = sources()["lock"].replace("def lock(", "def lock(x):\n    import time\n    time.sleep(60)\ndef _unused(", 1)
    monkeypatch.setattr(outset, "_sources", lambda: {**sources(), "lock": text})
    monkeypatch.setattr(provisioner, "_REPORT_SECONDS", 0.5)

    assert refused(isolated(level))


@pytest.mark.parametrize("level", ["full", "landlock"])
def test_rights(level: str) -> None:
    """Seen from outside: no capability, no new ones, a filter, its own namespaces, not the user root."""
    with lab(isolated(level)) as made:
        made.start()
        pid = made.sandbox.pid
        lines = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        mine = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
        other = {name for name in mine if os.readlink(f"/proc/{pid}/ns/{name}") != mine[name]}

        assert {int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert (lines["NoNewPrivs"], lines["Seccomp"]) == ("1", "2")
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
        assert level == "landlock" or other >= {"pid", "net", "ipc", "uts", "mnt"}
        assert level == "landlock" or os.getuid() or "0" not in lines["Uid"].split()


@pytest.mark.parametrize("level", ["full", "landlock"])
def test_descriptors(level: str) -> None:
    """It has its own pipes, sockets and scratch files open, and nothing of the host's."""
    kept = tempfile.TemporaryFile()  # noqa: SIM115 - as a careless program has one
    os.set_inheritable(kept.fileno(), True)
    with kept, lab(isolated(level)) as made:
        made.start()
        folder = Path(f"/proc/{made.sandbox.pid}/fd")
        found = [os.readlink(entry) for entry in folder.iterdir()]

        assert [name for name in found if not re.search(f"^{SCRATCH_FILES}$|{SCRATCH_FILES}", name)] == []
        assert not any(os.path.samestat(os.stat(e), os.fstat(kept.fileno())) for e in folder.iterdir())


def test_no_process_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bubblewrap that goes away after it was looked for is told as such."""
    sandbox = isolated("full")
    monkeypatch.setattr(shutil, "which", lambda name: "/nowhere/bwrap")

    assert "/nowhere/bwrap" in refused(sandbox)
