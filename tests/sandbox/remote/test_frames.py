"""Messages on a server's websocket, as values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import DELIM, Session
from jupyter_server.services.kernels.connection import base

from rlm_kernel.sandbox.messages import read
from rlm_kernel.sandbox.remote.frames import decode, encode

_PARTS = [b'{"msg_type": "execute_request"}', b"{}", b"{}", b'{"code": "1 + \\u00e9"}']
_BUFFERS = st.lists(st.binary(max_size=50), max_size=4)


@given(buffers=_BUFFERS)
def test_a_server_reads_what_we_write(buffers: list[bytes]) -> None:
    """jupyter_server's own reader finds the channel, the parts and the buffers, in the newer dialect."""
    data = encode("shell", _PARTS, buffers, v1=True)
    assert base.deserialize_msg_from_ws_v1(data) == ("shell", [*_PARTS, *buffers])  # type: ignore[no-untyped-call]


@given(buffers=_BUFFERS)
def test_an_older_server_reads_what_we_write(buffers: list[bytes]) -> None:
    """And in the older one, which gateways speak."""
    data = encode("shell", _PARTS, buffers, v1=False)
    if buffers:
        assert isinstance(data, bytes)
        message = base.deserialize_binary_message(data)  # type: ignore[no-untyped-call]
    else:
        assert isinstance(data, str)
        message = json.loads(data)
    assert message["channel"] == "shell"
    assert message["content"] == {"code": "1 + é"}
    assert message["header"] == {"msg_type": "execute_request"}
    assert message["buffers"] == buffers


@given(buffers=_BUFFERS)
def test_we_read_what_a_server_writes(buffers: list[bytes]) -> None:
    """The frames are the kernel's, but for the signature, and our reader takes them."""
    data = base.serialize_msg_to_ws_v1([*_PARTS, *buffers], "iopub")  # type: ignore[no-untyped-call]
    channel, frames = decode(data, v1=True)
    assert (channel, frames) == ("iopub", [DELIM, b"", *_PARTS, *buffers])
    assert read(Session(key=b""), frames).content == {"code": "1 + é"}


@pytest.mark.parametrize("binary", [False, True])
def test_we_read_what_an_older_server_writes(binary: bool) -> None:
    """JSON, alone or before buffers; a newer server says some things so as well."""
    names = ("header", "parent_header", "metadata", "content")
    message: dict[str, Any] = {name: json.loads(part) for name, part in zip(names, _PARTS, strict=True)}
    message |= {"channel": "iopub"}
    data = base.serialize_binary_message({**message, "buffers": [b"x"]}) if binary else json.dumps(message)  # type: ignore[no-untyped-call]
    channel, frames = decode(data, v1=False)
    assert channel == "iopub"
    assert read(Session(key=b""), frames).content == {"code": "1 + é"}


@given(data=st.binary(max_size=200) | st.text(max_size=200), v1=st.booleans())
def test_what_is_no_message_is_an_error(data: bytes | str, v1: bool) -> None:
    """Whatever arrives, nothing but ValueError comes of it (RecursionError of JSON)."""
    try:
        decode(data, v1=v1)
    except (ValueError, RecursionError):
        pass
    else:
        assert data  # it happened to be one


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        b"\x07" + b"\0" * 7 + b"\xff" * 56,
        (7).to_bytes(8, "little") + b"".join(n.to_bytes(8, "little") for n in (99, 64, 64, 64, 64, 64, 64)),
        "[]",
        "null",
    ],
)
def test_what_lies_about_its_parts_is_an_error(data: bytes | str) -> None:
    """Counts and offsets that do not fit are found before anything is cut."""
    with pytest.raises(ValueError):
        decode(data, v1=True)
