"""Kernels of a Jupyter server, or of a gateway that answers like one, reached with a token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from shutil import rmtree
from typing import Any
from urllib.parse import quote, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError
from tornado.websocket import WebSocketClientConnection, websocket_connect

from rlm_kernel.errors import InputError, SandboxError, closest
from rlm_kernel.sandbox.handle import Elsewhere
from rlm_kernel.sandbox.janitor import Janitor
from rlm_kernel.sandbox.remote.aside import wait_a_while
from rlm_kernel.sandbox.remote.frames import V1
from rlm_kernel.sandbox.remote.websocket import ServerClient, hang_up

__all__ = ["TOKEN", "JupyterServer", "ServerKernel"]

TOKEN = "RLM_SANDBOX_TOKEN"  # noqa: S105 - the name of the variable, not a token
"""The variable of the environment that holds a server's token where none is given."""
_MAX_MESSAGE = 600 * 2**20
_CONNECT_SECONDS, _START_SECONDS, _ASK_SECONDS = 10.0, 60.0, 10.0
_PING_SECONDS = 10.0
_END_SECONDS = 8.0
_LOOK_SECONDS = 3.0
"""Between two questions to the server whether it has the kernel still, while a cell runs."""
_SILENCE_SECONDS = 30.0
"""Without a connection for so long the kernel counts as gone."""


class _AbsentError(SandboxError):
    """The server does not have what it was asked for."""


def _close(opened: asyncio.Future[WebSocketClientConnection]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        hang_up(opened.result())


@dataclass(frozen=True)
class JupyterServer:
    """A `handle.Provider`: kernels of a Jupyter server.

    Args:
        url: where the server is, with its base path: `https://host:8888/user/me/`.
        token: what it wants to see; without one, `RLM_SANDBOX_TOKEN` of the environment. It is sent to the server
            alone, and is in no event, no text and not in the sandbox.
        kernelspec: the name of one of the server's; None for its default.

    Raises:
        InputError: the address is none, or has a secret in it.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    kernelspec: str | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets or a port that are none
            good = False
        if not good:
            raise InputError("the address of a Jupyter server looks like https://host:8888/")
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise InputError(
                f"the address of a Jupyter server ends with its path; a token goes into {TOKEN} of the environment"
            )
        path = parts.path.rstrip("/").removesuffix("/lab").removesuffix("/tree")
        object.__setattr__(self, "url", f"{parts.scheme}://{parts.netloc}{path}")

    def __str__(self) -> str:
        return self.url

    @property
    def isolation(self) -> str:
        """What is known: who runs it."""
        return f"as the Jupyter server {self} runs it; rlm_kernel adds nothing"

    def kernel(self) -> ServerKernel:
        """A kernel, not started yet."""
        return ServerKernel(self)

    def headers(self) -> dict[str, str]:
        """What each request carries."""
        token = self.token or os.environ.get(TOKEN)
        return {"Authorization": f"token {token}"} if token else {}


class ServerKernel(Elsewhere):
    """A `handle.Kernel` on a server."""

    pid = None
    connection_file = None

    def __init__(self, server: JupyterServer) -> None:
        self._server = server
        self.folder = Path(tempfile.mkdtemp(prefix="rlm-"))
        self.inbox = self.folder
        self._janitor = Janitor(self.folder)
        self._http = AsyncHTTPClient(force_instance=True)
        self._id: str | None = None
        self._client: ServerClient | None = None
        self._launching: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._looked = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def reconnects(self) -> int:
        """How often the connection was opened anew."""
        return self._client.reconnects if self._client is not None else 0

    async def launch(self) -> None:
        """Have the server start a kernel.

        Raises:
            SandboxError: it does not; the message says why.
        """
        name = self._server.kernelspec
        if name is not None:
            found = await self._ask("GET", "/api/kernelspecs")
            known = sorted(found["kernelspecs"]) if isinstance(found, dict) and "kernelspecs" in found else []
            if name not in known:
                raise SandboxError(
                    f"the Jupyter server {self._server} has no kernelspec '{name}'{closest(name, known)}; it has: "
                    f"{', '.join(known) or 'none'}"
                )
        # cancelled, it goes on: the kernel that comes of it has to be deleted
        self._launching = asyncio.create_task(self._create({"name": name} if name else {}))
        await asyncio.shield(self._launching)

    async def _create(self, wish: dict[str, str]) -> None:
        made = await self._ask("POST", "/api/kernels", wish, seconds=_START_SECONDS)
        if not isinstance(made, dict) or not isinstance(made.get("id"), str):
            raise SandboxError(f"what answers at {self._server} is no Jupyter server")
        self._id = made["id"]

    async def client(self) -> ServerClient:
        """A client, its channels open."""
        self._client = ServerClient(self._open)
        await self._client.start()
        return self._client

    async def _open(self, session_id: str) -> WebSocketClientConnection:
        address = f"ws{self._server.url.removeprefix('http')}{self._path}/channels?session_id={session_id}"
        request = HTTPRequest(
            address, headers=self._server.headers(), connect_timeout=_CONNECT_SECONDS, follow_redirects=False
        )
        opening = asyncio.ensure_future(
            websocket_connect(
                request,
                ping_interval=_PING_SECONDS,
                ping_timeout=_PING_SECONDS,
                max_message_size=_MAX_MESSAGE,
                subprotocols=[V1],
            )
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    @property
    def _path(self) -> str:
        return f"/api/kernels/{quote(self._id or '', safe='')}"

    async def alive(self) -> bool:
        """Whether the server has said nothing else, and the connection stands or has not been gone for long."""
        if self._client is None:
            return self._id is not None
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            task = asyncio.create_task(self._look())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        since = self._client.silent_since
        if since is not None and time.monotonic() - since > _SILENCE_SECONDS:
            self._client.ended = f"its connection was gone for {_SILENCE_SECONDS:g} s"
        return not self._client.ended

    async def _look(self) -> None:
        """Ask whether the server has the kernel still: where it was culled the connection may stand."""
        with contextlib.suppress(SandboxError):
            try:
                await self._ask("GET", self._path)
            except _AbsentError as error:
                if self._client is not None:
                    self._client.ended = str(error)

    async def interrupt(self) -> None:
        """Have the server interrupt it, without waiting for that."""
        task = asyncio.create_task(self._ask_for_interrupt())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_for_interrupt(self) -> None:
        with contextlib.suppress(SandboxError):  # a server that is gone is noticed by `alive`
            await self._ask("POST", f"{self._path}/interrupt", {})

    async def end(self) -> None:
        """Have the server delete it; see `Kernel.end`. What takes long goes on by itself."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await wait_a_while(self._ending, _END_SECONDS)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            self._client.stop_channels()
        if self._launching is not None:
            await asyncio.wait([self._launching])
        if self._id is not None:
            with contextlib.suppress(SandboxError):  # gone already, or with its server
                await self._ask("DELETE", self._path)
        self._id = None
        self._http.close()
        rmtree(self.folder, ignore_errors=True)
        self._janitor.dismiss()

    def last_words(self) -> str:
        """Why its connection ended, where that is known."""
        return self._client.ended if self._client is not None else ""

    async def _ask(self, method: str, path: str, body: Any = None, *, seconds: float = _ASK_SECONDS) -> Any:
        request = HTTPRequest(
            self._server.url + path,
            method=method,
            headers={**self._server.headers(), "Content-Type": "application/json"},
            body=None if body is None else json.dumps(body),
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=seconds,
            follow_redirects=False,  # a token is for this server only
        )
        try:
            answer = await self._http.fetch(request)
            return json.loads(answer.body) if answer.body else None
        except HTTPTimeoutError:
            raise SandboxError(f"the Jupyter server {self._server} did not answer in time") from None
        except (OSError, HTTPStreamClosedError) as error:
            raise SandboxError(f"the Jupyter server {self._server} cannot be reached: {error}") from None
        except HTTPClientError as error:
            kind = _AbsentError if error.code == HTTPStatus.NOT_FOUND else SandboxError
            raise kind(self._refusal(error)) from None
        except ValueError:
            raise SandboxError(f"what answers at {self._server} is no Jupyter server") from None

    def _refusal(self, error: HTTPClientError) -> str:
        if error.code in (301, 302, 303, 307, 308, 401, 403):
            given = "refused the token" if self._server.headers() else "wants a token"
            return f"the Jupyter server {self._server} {given} ({error.code}): put it into {TOKEN} of the environment"
        said = ""
        with contextlib.suppress(ValueError, AttributeError):
            said = f": {' '.join(str(json.loads(error.response.body)['message']).split())[:300]}"  # type: ignore[union-attr]  # suppressed
        return f"the Jupyter server {self._server} answered {error.code}{said}"
