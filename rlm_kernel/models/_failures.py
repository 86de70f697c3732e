"""Reads a provider's failure: which error of ours it is, and whether asking again can help.

Pure values in, pure values out. Exceptions are recognised by the names of their classes, so that neither SDK (nor the
HTTP library below it, which differs between SDK versions) is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from rlm_kernel.errors import AuthenticationError, ModelError, PromptTooLongError, RLMError

__all__ = ["Failure", "Service", "explain"]

LONGEST_WAIT = 120.0
"""Seconds of `retry-after` that are waited out; a server that asks for more is told of instead."""

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""An `error` event inside a stream comes under status 200: its type says what the status would have been."""

_OVERLOADED = {503, 529}
_PASSING = {408, 409, 429}
"""Refusals that pass by themselves, besides the server's own errors."""

_TOO_LONG = re.compile(
    r"prompt is too long|context.?length|context window|maximum context|too many tokens", re.IGNORECASE
)
_NO_CREDIT = re.compile(r"insufficient_quota|exceeded your current quota|credit balance|spend_limit", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Service:
    """Who was asked: the words an error message needs."""

    title: str
    model: str
    url: str
    key: str
    """The environment variable that holds the key."""
    timeout: float
    """Seconds between two pieces."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt."""

    error: RLMError
    retry: bool = False
    wait: float | None = None
    """Seconds the server asked us to wait, if it did."""
    pressed: bool = False
    """The server wants fewer calls."""


def explain(exc: Exception, service: Service) -> Failure:
    """Translate what the SDK raised. Errors of this package pass unchanged."""
    if isinstance(exc, RLMError):
        return Failure(exc)
    kinds = {kind.__name__ for error in (exc, exc.__cause__) if error for kind in type(error).__mro__}
    if "CredentialsError" in kinds:
        return Failure(AuthenticationError(f"{service.title} credentials cannot be read: {_line(str(exc))}"))
    if kinds & {"TimeoutException", "APITimeoutError", "TimeoutError"}:
        text = f"no piece of a reply from {service.url} for {service.timeout:g} s: try again, or raise timeout="
        return Failure(ModelError(text), retry=True)
    if kinds & {"TransportError", "APIConnectionError", "OSError", "EndOfStream"}:
        return _from_connection(exc, kinds, service)
    status = _status(exc, kinds)
    if status is not None:
        return _from_status(exc, status, service)
    text = f"cannot read the answer of {service.url} ({type(exc).__name__}: {_line(str(exc))}): is it the right URL?"
    return Failure(ModelError(text), retry="ValueError" in kinds)  # broken JSON may be a hiccup; the rest is not


def _from_connection(exc: Exception, kinds: set[str], service: Service) -> Failure:
    detail = _line(str(exc.__cause__ or exc)) or type(exc).__name__
    if kinds & {"UnsupportedProtocol", "LocalProtocolError"}:  # the detail may quote the header with the key
        text = f"cannot use the URL {service.url} or the key in {service.key}: look for stray blanks or line breaks"
        return Failure(ModelError(text))
    text = f"the connection to {service.url} broke off ({detail}): try again"
    if "ConnectError" in kinds:
        text = f"cannot reach {service.url} ({detail}): check the network, the URL, and that the server runs"
    return Failure(ModelError(text), retry=True)


def _from_status(exc: Exception, status: int, service: Service) -> Failure:
    said = _said(exc)
    told = f"{status}: {said}" if said else str(status)
    final = _final(status, f"{_code(exc)} {said}", told, service)
    if final is not None:
        return Failure(final)
    headers = getattr(getattr(exc, "response", None), "headers", None) or {}
    wait = _seconds(headers)
    pressed = status == HTTPStatus.TOO_MANY_REQUESTS or status in _OVERLOADED
    if wait is not None and wait > LONGEST_WAIT:
        error = ModelError(f"{service.title} asks to wait {wait:.0f} s before the next call ({told})")
        return Failure(error, wait=wait, pressed=pressed)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        text = f"{service.title} limits the rate ({told}): wait a little, or make fewer calls at once"
    elif status in _OVERLOADED:
        text = f"{service.title} is overloaded ({told}): try again in a minute, or take another model"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        text = f"{service.title} failed ({told}): try again"
    else:
        text = f"{service.title} refused the request ({told})"
    passing = status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    retry = {"true": True, "false": False}.get(headers.get("x-should-retry", ""), passing)
    return Failure(ModelError(text), retry, wait, pressed)


def _final(status: int, clues: str, told: str, service: Service) -> ModelError | None:
    """The error for what no retry can mend, or None."""
    name, title, key = service.model, service.title, service.key
    if status == HTTPStatus.UNAUTHORIZED:  # what the server said is left out: it may repeat the key
        return AuthenticationError(f"{title} refused the key (401): check {key} in this kernel's environment")
    if status == HTTPStatus.PAYMENT_REQUIRED or _NO_CREDIT.search(clues):
        return ModelError(f"{title} has no credit left for this key ({told}): add credit")
    if status == HTTPStatus.FORBIDDEN:
        return AuthenticationError(f"{title} does not allow this ({told}): check what the key in {key} may do")
    if status == HTTPStatus.NOT_FOUND:
        return ModelError(f"{title} does not know the model '{name}' ({told}): check its name and {service.url}")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (status == HTTPStatus.BAD_REQUEST and _TOO_LONG.search(clues)):
        return PromptTooLongError(f"the prompt is too long for '{name}' ({told}): send less text in one call")
    return None


def _status(exc: Exception, kinds: set[str]) -> int | None:
    status = getattr(exc, "status_code", None)
    if isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST:
        return status
    if "APIError" not in kinds:
        return None
    error = _error(exc)
    code = str(error.get("code"))
    return _STATUS_OF_TYPE.get(str(error.get("type"))) or (int(code) if re.fullmatch(r"[45]\d\d", code) else 500)


def _error(exc: Exception) -> Mapping[str, object]:
    """The `error` object of the body: Anthropic's SDK keeps it wrapped, OpenAI's unwraps it."""
    body = getattr(exc, "body", None)
    if isinstance(body, Mapping):
        inner = body.get("error")
        return inner if isinstance(inner, Mapping) else body
    return {}


def _code(exc: Exception) -> str:
    return f"{_error(exc).get('code', '')} {_error(exc).get('type', '')}"


def _said(exc: Exception) -> str:
    message = _error(exc).get("message")
    return _line(message if isinstance(message, str) else str(getattr(exc, "message", "")))


def _seconds(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if seconds > 0:
            return seconds
    return None


def _line(text: str, width: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
