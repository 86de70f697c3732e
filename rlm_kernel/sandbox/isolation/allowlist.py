"""Which hosts a sandbox may be connected to: the list that `--net` takes, and where no name on it may lead.

Values only: nothing here resolves or connects.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rlm_kernel.errors import InputError

__all__ = ["PORTS", "Allowed", "authority", "find", "is_public", "parse", "shown"]

PORTS = (443, 80)
"""Of a host that is listed without one."""
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_][A-Za-z0-9._-]{0,252}))(?::([0-9]{1,5}))?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry of the list."""

    host: str
    """In lower case; `*.example.org` stands for everything below example.org, but not for itself."""
    port: int | None = None
    """None for 443 and 80."""

    def covers(self, host: str, port: int) -> bool:
        """Whether this host may be connected to on this port."""
        if port not in ((self.port,) if self.port is not None else PORTS):
            return False
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host

    @property
    def anywhere(self) -> bool:
        """Whether it may be an address of this machine or its network: it was named as such, not looked up."""
        return self.host == "localhost" or _is_address(self.host)

    def __str__(self) -> str:
        return shown(self.host, self.port)


def parse(text: str) -> tuple[Allowed, ...]:
    """Read `HOST[:PORT],…`; empty text is an empty list.

    Raises:
        InputError: an entry is no host; the message names it.
    """
    return tuple(dict.fromkeys(_entry(word.strip()) for word in text.split(",") if word.strip()))


def _entry(word: str) -> Allowed:
    below = "*." if word.startswith("*.") else ""
    try:
        name = word.removeprefix(below)
        if not name.isascii():
            name = name.encode("idna").decode()
        host, port = authority(name)
        if below and (_is_address(host) or "." not in host):
            raise ValueError
    except ValueError:  # UnicodeError is one
        raise InputError(
            f"--net: {word!r} is no host; write api.example.org, *.example.org, localhost:8080 or [::1]:8080, "
            "with commas between them"
        ) from None
    return Allowed(below + host, port)


def authority(text: str) -> tuple[str, int | None]:
    """The host, as it stands in a list, and the port of `HOST[:PORT]`.

    Raises:
        ValueError: it is none: user names, wildcards and anything unusual are refused.
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise ValueError("not a host and port")
    six, name, digits = found.groups()
    port = int(digits) if digits else None
    if port is not None and not 0 < port < 2**16:
        raise ValueError("not a port")
    return (str(ipaddress.IPv6Address(six)) if six else name.lower().removesuffix(".")), port


def find(listed: Iterable[Allowed], host: str, port: int) -> Allowed | None:
    """The entry that allows this connection."""
    return next((entry for entry in listed if entry.covers(host, port)), None)


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's: not this machine's, its network's, or a cloud's metadata server.

    Of an IPv6 address that stands for an IPv4 one (mapped, 6to4, Teredo, NAT64), both have to be.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = [found.ipv4_mapped, found.sixtofour, found.teredo[1] if found.teredo else None]
        if found in _NAT64:
            inner.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if any(four is not None and not is_public(str(four)) for four in inner):
            return False
    return found.is_global and not found.is_multicast


def shown(host: str, port: int | None) -> str:
    """`host:port`, as people write it."""
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
