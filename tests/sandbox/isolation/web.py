"""Web servers of this machine, for sandboxes that may reach them or may not."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PRELUDE = """
import os, socket, subprocess, sys, urllib.error, urllib.request
PROXY = ('127.0.0.1', int(os.environ['http_proxy'].rpartition(':')[2]))

def attempt(what, *more):
    try:
        print('GOT', what(*more))
    except Exception as error:
        print(type(error).__name__, error)

def fetch(address, **more):
    return urllib.request.urlopen(address, timeout=10, **more).read().decode()

def raw(text):
    with socket.create_connection(PROXY, 5) as s:
        s.sendall(text.encode())
        s.shutdown(socket.SHUT_WR)
        answer = b''
        while data := s.recv(65536):
            answer += data
    return answer.split(b' ')[1].decode()
"""
"""For the cells that ask."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Says its path; `/to?http://…` redirects; `/endless` never ends."""

    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65_536)
            except OSError:
                self.server.ended.set()  # type: ignore[attr-defined]
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

    def log_message(self, *words: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """Of this machine's loopback.

    Attributes:
        seen: the paths it was asked for.
        ended: set when an endless answer was broken off.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[str] = []
        self.ended = threading.Event()

    def handle_error(self, *words: object) -> None:
        pass  # a client that does not trust the certificate


@contextmanager
def served(tls: Any = None) -> Iterator[Server]:
    server = Server()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
