"""The one way into the network, where there is one: a socket made in here, on which the host's proxy listens.

It belongs to the sandbox's own network, where nothing else is to be reached; whoever holds it may accept from anywhere.
"""

from __future__ import annotations

import os
import socket

_SECONDS = 5.0
_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def listen(channel: int) -> int:
    """Make the socket and hand it to the host.

    Args:
        channel: a unix socket whose other end the host has; it is closed.

    Returns:
        The port, on 127.0.0.1.

    Raises:
        OSError: there is no network in here.
    """
    with socket.socket(fileno=channel) as host, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        socket.send_fds(host, [b"\0"], [listening.fileno()])
        port: int = listening.getsockname()[1]
    return port


def announce(port: int) -> None:
    """Tell the programs of this process and its children, and see that it is there.

    Raises:
        OSError: it cannot be reached.
    """
    for name in _VARIABLES:
        os.environ[name] = os.environ[name.lower()] = f"http://127.0.0.1:{port}"
    socket.create_connection(("127.0.0.1", port), _SECONDS).close()
