"""The network of one sandbox: none, or a proxy of the host's behind one socket in the sandbox's own network.

The sandbox makes the socket before it is locked, and hands it over: so there is no path, no address and no process
between the two, and what the sandbox reaches there is the proxy, whatever else this machine listens to.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from rlm_kernel.errors import InputError, SandboxError
from rlm_kernel.sandbox.isolation.allowlist import Allowed, parse
from rlm_kernel.sandbox.isolation.inside import landlock
from rlm_kernel.sandbox.isolation.levels import why_not
from rlm_kernel.sandbox.isolation.policy import Level
from rlm_kernel.sandbox.isolation.proxy import Proxy, Traffic

__all__ = ["Network", "certificates", "check"]


def check(text: str | None, level: Level, kernelspec: str | None) -> tuple[Allowed, ...]:
    """The hosts that `--net` lists, where a sandbox of that level can be held to them.

    Raises:
        InputError: it cannot, or the list cannot be read.
    """
    listed = parse(text or "")
    if not listed:
        return ()
    if kernelspec:
        raise InputError(f"--net: the kernelspec '{kernelspec}' has the network it has; leave --net or --sandbox away")
    if level == "none":
        raise InputError("--net: at the level 'none' all of the network is open; leave --net away, or the level")
    if level != "full":
        why = why_not("full") or "the level 'landlock' was asked for"
        raise InputError(f"--net: only the level 'full' has a network of its own to let hosts into, and {why}")
    if landlock.abi() < landlock.KNOWS_PORTS:
        raise InputError("--net: this kernel cannot hold a program to one port, which Linux 6.7 can; leave --net away")
    return listed


def certificates() -> list[str]:
    """Where this machine keeps the public certificates that OpenSSL trusts, besides below /usr."""
    try:
        import ssl
    except ImportError:  # a Python without TLS has no use for them
        return []
    paths = ssl.get_default_verify_paths()
    found = {os.path.realpath(path) for path in (paths.openssl_cafile, paths.openssl_capath) if Path(path).exists()}
    return sorted(path for path in found if not path.startswith("/usr/"))


class Network:
    """The host's half.

    Args:
        listed: where connections may go; nothing for no network at all.

    Attributes:
        given: the descriptor that the sandbox inherits, until it has it.
    """

    def __init__(self, listed: Sequence[Allowed]) -> None:
        self._listed = tuple(listed)
        self._ours: socket.socket | None = None
        self._its: socket.socket | None = None
        if self._listed:
            self._ours, self._its = socket.socketpair()
        self.given = self._its.fileno() if self._its is not None else None
        self._proxy: Proxy | None = None

    @property
    def inherited(self) -> list[int]:
        """The same, as `Popen` takes descriptors."""
        return [] if self.given is None else [self.given]

    @property
    def traffic(self) -> Traffic | None:
        """What the proxy counted."""
        return self._proxy.traffic if self._proxy is not None else None

    def handed_over(self) -> None:
        """The sandbox has its end."""
        if self._its is not None:
            self._its.close()

    def open(self) -> None:
        """Begin to serve; to be called on the running loop, once the sandbox has told that it is locked.

        Raises:
            SandboxError: it has sent no socket.
        """
        if self._ours is None:
            return
        with self._ours as channel:
            channel.setblocking(False)
            try:
                _, received, _, _ = socket.recv_fds(channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                received = []
        if not received:
            raise SandboxError("the sandbox has no network of its own: without --net it may start")
        self._proxy = Proxy(socket.socket(fileno=received[0]), self._listed)

    async def close(self) -> None:
        """End every connection. Safe to call twice."""
        for end in (self._ours, self._its):
            if end is not None:
                end.close()
        if self._proxy is not None:
            await self._proxy.close()
