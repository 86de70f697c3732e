"""Code that makes its own kernel useless: the host ends it whenever it wants, and the next one runs."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from tests.sandbox.isolation.hostile import goes_on, goes_on_anew
from tests.sandbox.lab import Lab


def test_another_key(tooled: Lab) -> None:
    """Messages that are signed with another key are not heard; the sandbox can be ended and started again."""
    running = tooled.begin(
        "print('ready', flush=True)\ntime.sleep(0.3)\nsession.key = b'other'\nprint('unheard')", "ready"
    )
    time.sleep(1)

    assert not running.done()
    assert goes_on_anew(tooled)
    assert "unheard" not in running.result(5).text()


@pytest.mark.parametrize("name", ["shell_stream", "iopub_socket", "stdin_socket", "control_stream"])
def test_closed_sockets(tooled: Lab, name: str) -> None:
    """A kernel that cannot answer any more is ended by the host whenever it wants."""
    running = tooled.begin(f"print('ready', flush=True)\ntime.sleep(0.2)\nkernel.{name}.close()", "ready")
    time.sleep(0.5)

    assert goes_on_anew(tooled)
    assert running.result(5).status in {"ok", "died", "error"}


def test_closed_descriptors(tooled: Lab) -> None:
    """The same for one that closes all it has."""
    running = tooled.begin("print('ready', flush=True)\ntime.sleep(0.2)\nos.closerange(0, 1024)", "ready")
    time.sleep(0.5)

    assert goes_on_anew(tooled)
    assert running.result(5).status in {"ok", "died", "error"}


def test_the_guest_replaced(tooled: Lab) -> None:
    """Without our code in the kernel there is nothing more that it can do: it says little, or is started anew."""
    ran = tooled.run("""
for name in [n for n in sys.modules if 'rlm' in n]:
    sys.modules[name] = None
import builtins
__rlm__ = None
get_ipython().run_cell = get_ipython().run_cell_async = None
""")
    assert ran.status in {"ok", "error"}
    running = tooled.begin("print(1)", ready=None)
    time.sleep(0.5)
    assert goes_on_anew(tooled)
    assert running.result(5).status in {"ok", "error", "died"}


def test_killing_what_is_above(tooled: Lab) -> None:
    """It may end itself by that, never the host."""
    ran = tooled.run("""
for pid in os.getppid(), 1, 0 if os.getppid() == 1 else 1:
    for number in signal.SIGSTOP, signal.SIGKILL:
        if pid:
            try:
                os.kill(pid, number)
            except OSError as error:
                print(error)
""")
    assert ran.status in {"ok", "died"}
    assert psutil.Process(os.getppid()).is_running()
    assert goes_on_anew(tooled)


def test_stopping_itself(tooled: Lab) -> None:
    """A kernel that sleeps for ever is no obstacle to ending it."""
    running = tooled.begin("print('ready', flush=True)\ntime.sleep(0.2)\nos.kill(os.getpid(), signal.SIGSTOP)", "ready")
    time.sleep(0.5)
    begun = time.monotonic()
    tooled.wait(tooled.sandbox.shutdown())

    assert time.monotonic() - begun < 5
    assert running.result(5).status == "died"
    assert goes_on(tooled.start())


def test_ending_itself(tooled: Lab) -> None:
    """A kernel that ends is told as died, in time."""
    for code in "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "import ctypes; ctypes.string_at(0)":
        assert tooled.run(f"import os, signal\n{code}").status == "died"
        assert goes_on(tooled.start())
