"""Files out of a folder that somebody hostile fills and changes: what is listed, what is copied, what never happens."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.errors import InputError
from rlm_kernel.sandbox import files
from rlm_kernel.sandbox.base import MAX_FILES, ScratchFile
from rlm_kernel.sandbox.files import Scratch

LIMIT = 10_000


class Store:
    """A scratch folder and the host's side of it.

    Attributes:
        inside: where the hostile side writes.
        out: where the user wants copies.
    """

    def __init__(self, folder: Path) -> None:
        self.inside, self.out = folder / "scratch", folder / "out"
        self.inside.mkdir()
        self.scratch = Scratch(self.inside, LIMIT)

    def write(self, name: str, text: str = "text") -> Path:
        path = self.inside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def list(self) -> dict[str, ScratchFile]:
        return {file.name: file for file in asyncio.run(self.scratch.files())}

    def copy(self, *names: str, force: bool = False) -> list[Path]:
        return asyncio.run(self.scratch.copy_files(names, self.out, force=force))

    def refusal(self, *names: str, force: bool = False) -> str:
        with pytest.raises(InputError) as error:
            self.copy(*names, force=force)
        assert "\n" not in str(error.value)
        assert str(error.value).isprintable()
        return str(error.value)

    def copied(self) -> list[str]:
        return sorted(str(p.relative_to(self.out)) for p in self.out.rglob("*") if not p.is_dir())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    before = os.listdir("/proc/self/fd")
    made = Store(tmp_path)
    yield made
    made.scratch.close()
    made.scratch.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_what_is_there(store: Store) -> None:
    """Name, size and time of every file, below folders too, by name."""
    store.write("b.csv", "hello")
    store.write("a/deep/c.txt")
    os.utime(store.inside / "b.csv", (1, 86_400))
    listed = store.list()

    assert [*listed] == ["a/deep/c.txt", "b.csv"]
    assert listed["b.csv"] == ScratchFile("b.csv", 5, datetime(1970, 1, 2, tzinfo=UTC))


def test_copies(store: Store) -> None:
    """The same bytes at the same place below the folder, which is made; nobody may run them."""
    store.write("a/deep/c.txt", "deep")
    os.chmod(store.write("b.sh", "x" * 5000), 0o6777)
    made = store.copy("b.sh", "a/deep/c.txt", "b.sh")

    assert made == [store.out / "b.sh", store.out / "a/deep/c.txt"]
    assert (store.out / "a/deep/c.txt").read_text() == "deep"
    assert (store.out / "b.sh").read_text() == "x" * 5000
    assert stat.S_IMODE((store.out / "b.sh").stat().st_mode) & ~0o644 == 0
    assert store.copied() == ["a/deep/c.txt", "b.sh"]


def test_nothing_is_overwritten(store: Store) -> None:
    """Unless it is asked for; then whole or not at all, and a link of the user's is replaced, not written through."""
    store.write("b.csv", "new")
    store.out.mkdir()
    (store.out / "b.csv").write_text("mine")
    assert "is there already: copy to another folder, or overwrite it with --force" in store.refusal("b.csv")
    assert (store.out / "b.csv").read_text() == "mine"

    (store.out / "b.csv").rename(store.out / "other")
    (store.out / "b.csv").symlink_to("other")
    assert "is there already" in store.refusal("b.csv")
    store.copy("b.csv", force=True)
    assert (store.out / "b.csv").read_text() == "new"
    assert not (store.out / "b.csv").is_symlink()
    assert (store.out / "other").read_text() == "mine"

    (store.out / "b.csv").unlink()
    (store.out / "b.csv").mkdir()
    assert "cannot be written" in store.refusal("b.csv", force=True)
    assert store.copied() == ["other"]


def test_links_of_the_user_are_not_written_through(store: Store, tmp_path: Path) -> None:
    """A folder of the target that is a link leads elsewhere: a name of the sandbox's does not use it."""
    store.write("data/b.csv")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store.out.mkdir()
    (store.out / "data").symlink_to(elsewhere)

    assert "cannot be written" in store.refusal("data/b.csv")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "a/../../secret",
        "",
        ".",
        "..",
        "a//b",
        "a/",
        "./a",
        "nothing",
        "a/nothing",
        "b/c",
        "a\0b",
    ],
)
def test_names_that_lead_elsewhere(store: Store, name: str, tmp_path: Path) -> None:
    """Not even one that would end up inside again."""
    (tmp_path / "secret").write_text("secret")
    store.write("a/b")
    store.write("b")

    assert repr(name) in store.refusal(name)
    assert store.copied() == []


TRAPS: dict[str, tuple[str, str]] = {
    "\x1b[31mred": ("\\x1b[31mred", "unprintable"),
    "two\nlines": ("two\\nlines", "unprintable"),
    "\u202egpj.exe": ("\\u202egpj.exe", "unprintable"),
    "bad\udcff": ("bad\\udcff", "unprintable"),
    ".bashrc": (".bashrc", "hidden"),
    "-rf": ("-rf", "misread"),
    "~": ("~", "misread"),
    "a ": ("a ", "misread"),
    "c:\\x": ("c:\\x", "misread"),
    "n" * 201: ("n" * 201, "too long"),
}


@pytest.mark.parametrize("name", TRAPS, ids=ascii)
def test_names_that_are_traps(store: Store, name: str) -> None:
    """They are shown, escaped, and why they are not copied."""
    store.write(name)
    shown, why = TRAPS[name]

    assert why in store.list()[shown].refused
    assert why in store.refusal(name)
    assert store.copied() == []


def test_folders_of_such_names(store: Store) -> None:
    """One entry each: nobody looks below them, nor deeper than is reasonable."""
    store.write(".git/hooks/post-checkout")
    store.write("/".join("d" * 20))
    listed = store.list()

    assert listed[".git/"].refused == "hidden"
    assert len(listed) == 2
    assert "hidden" in store.refusal(".git/hooks/post-checkout")
    assert "too long" in store.refusal("/".join("d" * 20))


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def hard(path: Path) -> None:
    (path.parent / "first").write_text("first")
    path.hardlink_to(path.parent / "first")


def unix(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket has to be short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (link, "a symbolic link"),
        (os.mkfifo, "no regular file"),
        (unix, "no regular file"),
        (os.mkdir, "no regular file"),
        (hard, "another name"),
        (large, "larger than 10,000 bytes"),
    ],
)
def test_what_is_no_plain_file(store: Store, make: Callable[[Path], Any], why: str) -> None:
    """It is told as such and not opened: nothing waits, nothing is read elsewhere."""
    make(store.inside / "x")

    assert why in store.refusal("x")
    assert make is os.mkdir or why in store.list()["x"].refused
    assert store.copied() == []


def test_a_folder_that_is_a_link(store: Store, tmp_path: Path) -> None:
    """It is listed as a link, and no name leads through it; nor does one through a pipe."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/secret").write_text("secret")
    (store.inside / "home").symlink_to(tmp_path / "home")
    os.mkfifo(store.inside / "pipe")

    assert [*store.list()] == ["home", "pipe"]
    assert "home/secret" in store.refusal("home/secret")
    assert "pipe/x" in store.refusal("pipe/x")


def test_a_scratch_folder_that_is_swapped(store: Store, tmp_path: Path) -> None:
    """The folder is the one that was opened, wherever it is now and whatever bears its name."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/secret").write_text("secret")
    store.write("mine")
    store.inside.rename(tmp_path / "moved")
    store.inside.symlink_to(tmp_path / "home")

    assert [*store.list()] == ["mine"]
    assert "secret" in store.refusal("secret")
    with pytest.raises(OSError, match=r"symbolic|directory"):
        Scratch(store.inside, LIMIT)


def test_swapping_all_the_time(store: Store, tmp_path: Path) -> None:
    """While folders and files turn into links and back, a copy is of the right file or there is none."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/x").write_text("secret")
    store.write("d/x", "harmless")
    stop = threading.Event()

    def swap() -> None:
        inside = store.inside
        while not stop.is_set():
            for name, target in (("d", tmp_path / "home"), ("d/x", tmp_path / "home/x")):
                (inside / name).rename(inside / "aside")
                (inside / name).symlink_to(target)
                (inside / name).unlink()
                (inside / "aside").rename(inside / name)

    thread = threading.Thread(target=swap)
    thread.start()
    ended = {"copied": 0, "refused": 0}
    try:
        for _ in range(400):
            store.list()
            try:
                store.copy("d/x", force=True)
                ended["copied"] += 1
                assert (store.out / "d/x").read_text() == "harmless"
            except InputError:
                ended["refused"] += 1
    finally:
        stop.set()
        thread.join()
    assert sum(ended.values()) == 400


@pytest.mark.parametrize("size", [3, 7])
def test_a_file_that_changes(size: int, tmp_path: Path) -> None:
    """One that has become shorter or longer than it was is no copy."""
    (tmp_path / "x").write_text("12345")
    with (tmp_path / "x").open("rb") as source, (tmp_path / "y").open("wb") as copy:
        assert not files._same(source.fileno(), copy.fileno(), size)
    assert (tmp_path / "y").stat().st_size <= size


def test_a_copy_that_fails_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a file nor the one that was there before is lost; one line says what happened."""
    store.write("b.csv", "new")
    for why, broken in (
        ("was changed while it was copied", lambda *_: False),
        ("No space left", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))),
    ):
        monkeypatch.setattr(files, "_same", broken)
        assert why in store.refusal("b.csv")
        assert store.copied() == []
        (store.out / "b.csv").write_text("mine")
        assert why in store.refusal("b.csv", force=True)
        assert store.copied() == ["b.csv"]
        assert (store.out / "b.csv").read_text() == "mine"
        (store.out / "b.csv").unlink()


def test_bounds(store: Store) -> None:
    """So many files are listed, so many copied, with so many bytes; all are looked at before the first is copied."""
    for number in range(MAX_FILES + 10):
        store.write(f"f{number:04}", "")
    assert len(store.list()) == MAX_FILES
    assert "1 to 1,000 files" in store.refusal(*(f"f{number:04}" for number in range(MAX_FILES + 1)))
    assert "not 0" in store.refusal()

    store.write("g", "x" * 6000)
    store.write("h", "x" * 6000)
    assert "these are 12,000 bytes; 10,000 can be copied at once" in store.refusal("g", "h")
    assert "nothing.csv" in store.refusal("g", "nothing.csv")
    assert store.copied() == []


def test_many_folders(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty ones end the looking as well."""
    monkeypatch.setattr(files, "_MAX_SEEN", 50)
    for number in range(100):
        (store.inside / f"d{number}").mkdir()
    store.write("d0/x")

    assert len(store.list()) <= 1


def test_times_that_no_calendar_has() -> None:
    """They are shown as the first of all."""
    status = os.stat_result((0o100644, 0, 0, 1, 0, 0, 1, 0, 1e18, 0))

    assert files._file(["x"], status, LIMIT) == ScratchFile("x", 1, datetime(1970, 1, 1, tzinfo=UTC))


def test_targets_that_are_none(store: Store, tmp_path: Path) -> None:
    """A file, or a folder whose parent is not there, is told in one line."""
    store.write("x")
    store.out.write_text("")
    assert f"nothing can be copied to {store.out}" in store.refusal("x")
    store.out.unlink()
    store.out = tmp_path / "no" / "such"
    assert "nothing can be copied to" in store.refusal("x")


def test_an_end_in_between(store: Store) -> None:
    """What has begun ends well although the folder is let go of; afterwards there is nothing."""
    store.write("x", "x" * 9000)

    async def work() -> list[Path]:
        copying = asyncio.ensure_future(store.scratch.copy_files(["x"], store.out))
        await asyncio.sleep(0)
        store.scratch.close()
        return await copying

    assert asyncio.run(work()) == [store.out / "x"]
    assert (store.out / "x").stat().st_size == 9000
    with pytest.raises(InputError, match="has ended, and its files with it"):
        asyncio.run(store.scratch.files())
