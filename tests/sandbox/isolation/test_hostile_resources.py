"""Code that takes what it can get: it comes to its limits, and the host and the next cell go on."""

from __future__ import annotations

import os
import time

import psutil

from rlm_kernel.sandbox.isolation.policy import MB
from tests.sandbox.isolation.hostile import SMALL, family, goes_on
from tests.sandbox.lab import Lab


def uncounted(status: str, made: Lab) -> bool:
    """Whether it was ended for its processes: without a user of its own the kernel refuses it none."""
    if status == "died":
        assert made.sandbox.level == "landlock"
        assert goes_on(made.start())
    return status == "died"


def test_processes(small: Lab) -> None:
    """Forking without end stops at the limit; when the children are gone there is room again."""
    code = """
import os, signal, time
children = []
try:
    for _ in range(400):
        pid = os.fork()
        if not pid:
            time.sleep(30)
            os._exit(0)
        children.append(pid)
    time.sleep(1)
except BlockingIOError as error:
    print('refused')
"""
    ran = small.run(code)
    if uncounted(ran.status, small):
        return
    seen = len(family(small))
    small.run("for pid in children:\n    os.kill(pid, 9)\n    os.waitpid(pid, 0)")

    assert "refused" in ran.text()
    assert seen <= SMALL.processes
    assert goes_on(small)


def test_threads(small: Lab) -> None:
    """Threads count like processes, and a cell that starts too many is told so."""
    ran = small.run("""
import threading, time
over, threads = threading.Event(), []
try:
    for _ in range(100):
        thread = threading.Thread(target=over.wait)
        thread.start()
        threads.append(thread)
    time.sleep(1)
except RuntimeError as error:
    print('refused', error)
""")
    if uncounted(ran.status, small):
        return
    seen = psutil.Process(small.sandbox.pid).num_threads()
    small.run("over.set()\nfor thread in threads: thread.join()")

    assert "refused" in ran.text()
    assert seen <= SMALL.processes
    assert goes_on(small)


def test_a_fork_bomb(small: Lab) -> None:
    """Children of children that lose their parents end with the sandbox, however fast they are."""
    before = set(psutil.pids())
    running = small.begin("""
import os, time
print('ready', flush=True)
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        if os.fork():
            if os.getppid() != 1:
                time.sleep(0.01)
    except BlockingIOError:
        time.sleep(0.01)
os._exit(0)
""")
    top = 0
    end = time.monotonic() + 2
    while time.monotonic() < end and not running.done():
        top = max(top, len(set(psutil.pids()) - before))
        time.sleep(0.02)
    small.wait(small.sandbox.shutdown())

    assert top < 10 * SMALL.processes
    assert goes_on(small.start())


def test_memory_of_one_process(small: Lab) -> None:
    """More than the limit is a MemoryError in the cell, and nothing has been taken."""
    ran = small.run(f"x = bytearray({SMALL.memory * MB})")

    assert ran.status == "error"
    assert "MemoryError" in ran.text()
    assert psutil.Process(small.sandbox.pid).memory_info().rss < SMALL.memory * MB / 2
    assert goes_on(small)


def test_memory_of_many_processes(small: Lab) -> None:
    """Together they may not have more than one: the sandbox is ended, and the next one starts."""
    code = f"""
import os, time
for _ in range(6):
    if not os.fork():
        x = b'x' * {400 * MB}
        time.sleep(20)
        os._exit(0)
print('ready')
time.sleep(20)
"""
    top = 0.0
    running = small.begin(code)
    while not running.done():
        members = [p for p in psutil.Process(os.getpid()).children(recursive=True) if p.is_running()]
        total = 0
        for member in members:
            try:
                total += member.memory_full_info().pss
            except psutil.Error:
                continue
        top = max(top, total / MB)
        time.sleep(0.02)

    assert running.result().status == "died"
    assert top < 2 * SMALL.memory + 1024
    assert goes_on(small.start())


def test_processes_that_share_their_memory(small: Lab) -> None:
    """What children have from their parent is counted once: a pool over large data is no reason to end it."""
    ran = small.run(f"""
import os, time
x = b'x' * {300 * MB}
children = []
for _ in range(6):
    pid = os.fork()
    if not pid:
        time.sleep(2)
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
del x
""")

    assert ran.status == "ok"
    assert goes_on(small)
