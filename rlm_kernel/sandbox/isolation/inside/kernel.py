"""The sandbox's ipykernel: listens on sockets that the host made, and leaves suspended copies of itself behind.

A copy is a fork that waits for a signal. Woken, when the kernel is dead, it makes everything that a fork does not copy
anew (ZeroMQ, event loops, threads) and goes on under the same sockets with the state of its moment: the same shell and
namespace, so that closures, settings and imported modules are what they were. Asked for a child it forks once more, and
that process becomes a kernel of its own in the same way, under sockets that came with the request.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import functools
import json
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import ipykernel.iostream
import ipykernel.kernelapp
import zmq
from ipykernel.zmqshell import ZMQInteractiveShell
from rlm_inside import keeper, shed, threads  # type: ignore[import-not-found]  # sent along
from zmq.eventloop.zmqstream import ZMQStream

WAKE, BEAR = signal.SIGUSR1, signal.SIGUSR2
MOST_BYTES, MOST_SOCKETS = 4096, 8
"""Of a request for a child."""
TRIES, FIRST_TRIES, TRY_SECONDS = 30, 200, 0.001
"""Without a first copy a child takes a kernel that is started from nothing, which is worth more patience."""


class Woken(SystemExit):
    """Leaves the event loop of the process that was copied. asyncio lets a SystemExit pass, and nothing else.

    Attributes:
        context: the context variables of the code, which a module may keep its settings in.
        child: what the host says of the child that the process is to be; None where it goes on as the kernel.
    """

    def __init__(self, child: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.context = contextvars.copy_context()
        self.child = child


_IOPubThread: Any = ipykernel.iostream.IOPubThread  # ipykernel's types are incomplete
_App: Any = ipykernel.kernelapp.IPKernelApp


class IOPubThread(_IOPubThread):  # type: ignore[misc]  # as above
    """Without the pipe for child processes, which is a TCP socket: there may be none here."""

    def __init__(self, socket: Any, pipe: bool = False, **more: Any) -> None:
        super().__init__(socket, pipe=False, **more)


class KernelApp(_App):  # type: ignore[misc]  # as above
    """An ipykernel on given sockets.

    Attributes:
        on_wake: called in a copy that has become the kernel, once it has its streams, with its event loop.
    """

    policy: dict[str, Any]
    talk: socket.socket
    is_child = False
    _redirected: list[Any]
    on_wake: Callable[[asyncio.AbstractEventLoop], None]

    def init_connection_file(self) -> None:
        """There is no file: what it would say is in the policy."""
        self.load_connection_info(self.policy["connection"])

    def write_connection_file(self, **_: Any) -> None:
        """As above."""

    def log_connection_info(self) -> None:
        """Nobody reads it, and it would stand in the way of last words."""

    def _bind_socket(self, s: Any, port: int) -> int:
        s.setsockopt(zmq.USE_FD, os.dup(self.policy["sockets"][str(port)]))
        s.bind(f"ipc://{self.ip}-{port}")
        return port

    def init_heartbeat(self) -> None:
        """Nobody listens to it: the host watches the process."""
        self.heartbeat = None

    # -- copies -----------------------------------------------------------------------------------------------
    def arm(self, on_wake: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """From now on there can be copies; the threads that run now are the kernel's own."""
        self.on_wake = on_wake
        self._own = threading.enumerate()
        self._copies: list[int] = []

    def checkpoint(self, step: int, *, patient: bool) -> bool:
        """Leave a copy of this moment behind and tell the host, or tell why there is none.

        Args:
            step: names the moment for the host.
            patient: there will be another try if a thread is busy; most come to rest.

        Returns:
            Whether it is done, one way or the other.

        Raises:
            Woken: in the copy, when it is to be the kernel; and in a child of it.
        """
        if self.is_child:  # it would have to be told from its parent's
            return True
        self._reap()
        why = threads.obstacles(self._own)
        for _ in range(0 if patient else TRIES if self._copies else FIRST_TRIES):
            if why is not None:
                break
            time.sleep(TRY_SECONDS)
            why = threads.obstacles(self._own)
        if why is None and patient:
            return False
        if why or why is None:
            why = why or "a library's thread does not come to rest"
            self._tell(step=step, obstacle=why)
            return True
        numbers = random.getstate()  # Python seeds it anew in a fork
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE, BEAR, signal.SIGINT})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads, which were looked at
            try:
                pid = os.fork()
            except OSError as error:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                self._tell(step=step, obstacle=f"no process could be made: {error.strerror}")
                return True
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            self._copies.append(pid)
            return True
        self._tell(step=step, copy=True)
        child = None
        while child is None and signal.sigwait({WAKE, BEAR}) == BEAR:
            child = self._bear()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if child is None:
            random.setstate(numbers)
        raise Woken(child)

    def _reap(self) -> None:
        """Wait for copies that have ended."""
        for pid in list(self._copies):
            with contextlib.suppress(ChildProcessError):  # the copy of a kernel that this one has replaced
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            self._copies.remove(pid)

    def _bear(self) -> dict[str, Any] | None:
        """Fork for every child that the host has asked for; returns in each what was said of it, and None here."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        while True:
            try:
                said, sockets, _, _ = socket.recv_fds(self.talk, MOST_BYTES, MOST_SOCKETS, socket.MSG_DONTWAIT)
            except OSError:  # there are no more
                return None
            try:
                if os.fork() == 0:
                    return {**json.loads(said), "sockets": sockets}
            except OSError as error:
                self._tell(unborn=json.loads(said)["child"], why=f"no process could be made: {error.strerror}")
            for fd in sockets:
                os.close(fd)

    def wake(self, child: dict[str, Any] | None = None) -> None:
        """Become the kernel and run, in a copy that has left its event loop; or become a child of it."""
        keeper.die_with(os.getppid())
        paths = {f"{self.ip}-{port}" for port in self.policy["sockets"]}
        if child is not None:
            self._take_over(child)
        self._leave_behind(paths)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self.reset_io()  # what the streams still hold has been said by the process that was copied
        self.session.pid = os.getpid()
        self.context = None
        atexit.unregister(self.close)
        self.init_sockets()
        self.init_io()
        self._connect(self.kernel)
        self.on_wake(loop)
        self.arm(self.on_wake)
        self._tell(**({"kernel": True} if child is None else {"born": child["child"]}))
        self.start()

    def _take_over(self, child: dict[str, Any]) -> None:
        """Sockets, key and folder of a child."""
        self.is_child = True
        ports = child["ports"]
        self.policy["sockets"] = dict(zip(map(str, ports), child["sockets"], strict=True))
        for name, port in zip(("shell", "iopub", "stdin", "control", "hb"), ports, strict=True):
            setattr(self, f"{name}_port", port)
        self.session.key = child["key"].encode()
        folder = os.path.join(self.policy["scratch"], child["folder"])
        with contextlib.suppress(
            OSError
        ):  # full, or made something else by foreign code: then it works in its parent's
            os.makedirs(folder, exist_ok=True)
            os.chdir(folder)

    def _connect(self, kernel: Any) -> None:
        """Give the kernel the new sockets and threads, as `init_kernel` gave it the first ones."""
        shell_stream = ZMQStream(self.shell_socket, self.shell_channel_thread.io_loop)
        self.shell_channel_thread.shell_stream = kernel.shell_stream = shell_stream
        kernel.control_stream = ZMQStream(self.control_socket, self.control_thread.io_loop)
        kernel.debugpy_stream = ZMQStream(self.debugpy_socket, self.control_thread.io_loop)
        for name in (
            *("iopub_thread", "iopub_socket", "stdin_socket"),
            *("control_thread", "shell_channel_thread", "debug_shell_socket"),
        ):
            setattr(kernel, name, getattr(self, name))
        kernel.shell.displayhook.pub_socket = kernel.shell.display_pub.pub_socket = self.iopub_socket
        self.displayhook.get_execution_count = lambda: kernel.execution_count
        kernel._main_asyncio_lock = asyncio.Lock()
        kernel._aborting = False
        self.control_thread.start()
        self.shell_channel_thread.start()

    def _leave_behind(self, paths: set[str]) -> None:
        """Give up what belonged to the threads and sockets of the process that was copied.

        Args:
            paths: of its sockets.
        """
        self.io_loop.asyncio_loop.set_exception_handler(lambda *_: None)  # of the task that was left
        # one that had just arrived when the copy was made: it is the other process's
        warnings.filterwarnings("ignore", "coroutine '.*shell_main' was never awaited", RuntimeWarning)
        for owner in (self.iopub_thread, self.control_thread, self.shell_channel_thread, self):
            shed.close(owner.io_loop)
        for thread in self._own:
            if thread is not threading.main_thread():
                shed.empty(thread)
        pipes = set()
        for stream in self._redirected:
            stream._should_watch = False  # else it would end the thread that it had, when it is collected
            pipes.add(os.fstat(stream._fid).st_ino)
            os.dup2(stream._original_stdstream_copy, stream._original_stdstream_fd)
            os.close(stream._original_stdstream_copy)
        kept = {self.talk.fileno(), *self.policy["sockets"].values()}
        for fd in range(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0]):  # /proc/self may be another process's
            if fd not in kept and shed.is_plumbing(fd, paths, pipes):
                os.close(fd)

    def init_io(self) -> None:
        """Also keeps the streams: those that redirect a descriptor have to give it back."""
        super().init_io()
        self._redirected = [s for s in (sys.stdout, sys.stderr) if getattr(s, "_should_watch", False)]

    def patch_io(self) -> None:
        """Once is enough."""
        if not hasattr(self, "_patched"):
            self._patched = True
            super().patch_io()

    def _tell(self, **facts: Any) -> None:
        with contextlib.suppress(OSError):  # full or closed by foreign code: then there is no checkpoint
            self.talk.send(json.dumps(facts).encode(), socket.MSG_DONTWAIT)


def become(policy: dict[str, Any], talk: socket.socket) -> None:
    """Run the kernel in this process, to its end; and again where a copy of it is woken."""
    if policy["shared"]:  # the machine's terminals are not to be had: `!` goes without
        ZMQInteractiveShell.system = ZMQInteractiveShell.system_raw
    setattr(ipykernel.kernelapp, "IOPubThread", IOPubThread)  # noqa: B010 - its one user, found there by name
    os.chdir(policy["scratch"])
    app = KernelApp.instance()
    app.policy, app.talk = policy, talk
    app.initialize(["--HistoryManager.enabled=False"])  # a database, and a thread that every fork ends
    app._tell(kernel=True)
    context, run = contextvars.copy_context(), app.start
    while True:
        try:
            context.run(run)
        except Woken as woken:
            context, run = woken.context, functools.partial(app.wake, woken.child)
        else:
            return
