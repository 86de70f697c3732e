"""Code that fills what it can: disk, descriptors, time and pipes. It comes to its limits, and all else goes on."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from rlm_kernel.sandbox.isolation.policy import MB, PROMISES
from tests.sandbox.isolation.hostile import SMALL, UNBOUNDED, family, goes_on
from tests.sandbox.lab import Lab


@pytest.fixture
def bounded(small: Lab) -> Lab:
    """It, where the level bounds the disk: at the others these tests are not collected."""
    assert small.sandbox.level not in UNBOUNDED
    return small


def test_what_is_not_bounded_is_said() -> None:
    """The promise of a level that leaves the disk open says so."""
    assert all(words in PROMISES[level] for level, words in UNBOUNDED.items())  # type: ignore[index]  # they are levels


@pytest.mark.parametrize("where", ["/tmp/scratch", "/dev/shm"])
def test_disk(bounded: Lab, where: str) -> None:
    """Files end at the limit of their folder."""
    said = bounded.run(f"""
import os
made = []
try:
    for number in range(20):
        made.append(f'{where}/fill{{number}}')
        with open(made[-1], 'wb') as file:
            for _ in range(10):
                file.write(b'x' * {MB})
except OSError as error:
    print(error.strerror)
print(sum(os.stat(name).st_size for name in made) // {MB})
for name in made:
    os.unlink(name)
""").text()

    assert "No space left on device" in said
    assert int(said.split()[-1]) <= SMALL.scratch


def test_a_huge_file(small: Lab) -> None:
    """Not even an empty one of 100 GB, nor one with holes."""
    said = small.run("""
import os
for make in (lambda f: f.truncate(100 * 2**30), lambda f: os.posix_fallocate(f.fileno(), 0, 100 * 2**30),
             lambda f: (f.seek(100 * 2**30), f.write(b'x'), f.flush())):
    try:
        with open('huge', 'wb', buffering=0) as file:
            make(file)
    except OSError as error:
        print(error.strerror)
os.unlink('huge')
""").text()

    assert said == "File too large\n" * 3
    assert goes_on(small)


def test_many_files(bounded: Lab) -> None:
    """A hundred thousand empty ones: the kernel's memory for them is bounded as well."""
    ran = bounded.run("""
import os
os.mkdir('many')
count = 0
try:
    for count in range(100_000):
        os.close(os.open(f'many/{count}', os.O_CREAT))
except OSError as error:
    print(error.strerror)
import time
time.sleep(1)
""")

    assert ran.status == "died" or "No space" in ran.text()
    assert goes_on(bounded.start())


def test_descriptors(small: Lab) -> None:
    """They end at the limit, and the kernel runs on with what the cell leaves it."""
    ran = small.run("""
import os
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError as error:
    print(error.strerror)
print(len(taken))
for fd in taken: os.close(fd)
""")

    assert "Too many open files" in ran.text()
    assert int(ran.text().split()[-1]) <= SMALL.files
    assert goes_on(small)


def test_descriptors_that_stay_taken(small: Lab) -> None:
    """A cell that keeps them all harms itself only: the host ends it, and starts another."""
    small.run("taken = []\nwhile True: taken.append(os.dup(0))")
    small.wait(small.sandbox.shutdown())

    assert goes_on(small.start())


def test_a_busy_cell(small: Lab) -> None:
    """It is interrupted, and so is one that sleeps in C."""
    for code in "while True: pass", "import time\ntime.sleep(60)", "sum(range(10**11))":
        if "sum" not in code:
            assert small.stop(small.begin(f"print('ready')\n{code}")).status == "interrupted"
    assert goes_on(small)


def test_a_stubborn_cell(small: Lab) -> None:
    """Children that ignore every signal go with the sandbox."""
    small.begin("""
import os, signal, time
for number in range(1, 32):
    if number not in (9, 19):
        signal.signal(number, signal.SIG_IGN)
for _ in range(5):
    if not os.fork():
        while True: time.sleep(1)
print('ready')
while True: pass
""")
    members = family(small)
    assert len(members) > 5
    small.wait(small.sandbox.shutdown())
    _, alive = psutil.wait_procs(members, timeout=5)

    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    assert goes_on(small.start())


def test_words_without_end(small: Lab) -> None:
    """What it writes to the host's own pipe is read and forgotten, a few last words excepted."""
    ran = small.run("""
import os
for fd in map(int, os.listdir('/proc/self/fd')):
    try:
        if os.readlink(f'/proc/self/fd/{fd}').startswith('pipe:') and fd > 2:
            os.set_blocking(fd, False)
            for _ in range(200):
                os.write(fd, b'x' * 65536)
    except OSError:
        pass
""")

    assert ran.status in {"ok", "died"}
    assert len(small.sandbox._process.manager.provisioner._words._kept) <= 4096 if ran.status == "ok" else True
    small.wait(small.sandbox.shutdown())
    assert goes_on(small.start())


def test_nothing_is_left(small: Lab) -> None:
    """After all that the sandbox ends with its folder."""
    folder = Path(small.sandbox._process.folder)
    members = family(small)
    small.wait(small.sandbox.shutdown())

    assert not folder.exists()
    _, alive = psutil.wait_procs(members, timeout=5)
    assert alive == []
