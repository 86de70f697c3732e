"""ZMTP without sockets: bytes in, messages out, bounded however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_kernel.sandbox.zmtp import MAX_FRAMES, Incoming, TooLarge, WireError, encode, greeting

HELLO = greeting("DEALER", b"me")


def incoming(max_bytes: int = 1000) -> Incoming:
    """A connection whose peer has greeted."""
    made = Incoming(max_bytes)
    made.feed(HELLO)
    assert made.next() is None
    assert made.ready
    return made


def everything(made: Incoming, data: bytes, cut: int = 0) -> list[list[bytes] | TooLarge]:
    """All messages of `data`, fed in pieces of `cut` bytes."""
    found = []
    for start in range(0, len(data), cut or len(data)):
        made.feed(data[start : start + (cut or len(data))])
        while (message := made.next()) is not None:
            found.append(message)
    return found


def frame(body: bytes, *, more: bool = False, size: int | None = None) -> bytes:
    """A long frame that may lie about its size."""
    return bytes([2 | more]) + (len(body) if size is None else size).to_bytes(8, "big") + body


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_messages_come_as_they_were_sent(cut: int) -> None:
    """Whatever the pieces that the bytes arrive in."""
    sent = [[b"a"], [b"", b"x" * 255, b"y" * 256], [b"<IDS|MSG>", b"{}"]]

    assert sent == everything(incoming(), b"".join(map(encode, sent)), cut)


@settings(deadline=None, derandomize=True, database=None)
@given(st.lists(st.lists(st.binary(max_size=400), min_size=1, max_size=MAX_FRAMES), max_size=5), st.integers(1, 100))
def test_any_messages(sent: list[list[bytes]], cut: int) -> None:
    """What `encode` writes is read back."""
    assert sent == everything(incoming(100_000), b"".join(map(encode, sent)), cut)


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_one_that_is_too_large_is_passed_over(cut: int) -> None:
    """It is told once, in its place, and what follows is read."""
    large = [encode([b"x" * 1001]), encode([b"x" * 600, b"y" * 600, b"z" * 600]), encode([b"x" * 5000, b"", b"y"])]
    data = b"".join(encode([b"before"]) + one for one in large) + encode([b"after"])

    assert everything(incoming(), data, cut) == [[b"before"], TooLarge.MESSAGE] * 3 + [[b"after"]]


def test_the_largest_there_may_be() -> None:
    """The bound is of all frames together."""
    assert everything(incoming(), encode([b"x" * 500, b"y" * 500])) == [[b"x" * 500, b"y" * 500]]


def test_too_large_is_told_before_it_has_ended() -> None:
    """By its announced size alone, however long the rest takes."""
    made = incoming()

    assert everything(made, frame(b"x", size=2**63)) == [TooLarge.MESSAGE]
    assert everything(made, b"x" * 10_000) == []
    assert len(made._buffer) <= 10_000


def test_frames_without_number() -> None:
    """A message of too many frames comes without any; one without end ends the connection."""
    made = incoming()

    assert everything(made, encode([b"x"] * (MAX_FRAMES + 1)) + encode([b"next"])) == [[], [b"next"]]
    assert everything(made, b"\x01\x00" * 10_000) == []
    with pytest.raises(WireError, match="without end"):
        everything(made, b"\x01\x00" * 100)


def test_nothing_is_kept_of_what_is_passed_over() -> None:
    """An endless message of large frames takes no memory."""
    made = incoming()
    found = everything(made, frame(b"x" * 900, more=True) * 5000, 4096)

    assert found == [TooLarge.MESSAGE]
    assert made._frames == []
    assert len(made._buffer) < 10_000


STRANGERS = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(64),
    "an older ZMTP": HELLO[:10] + b"\x02" + HELLO[11:],
    "encrypted": HELLO[:12] + b"CURVE".ljust(20, b"\0") + HELLO[32:],
    "a message first": HELLO[:64] + encode([b"x"]),
    "another command": HELLO[:64] + b"\x04\x06\x05ERROR",
    "a long command": HELLO[:64] + b"\x06" + (2**40).to_bytes(8, "big"),
    "a command later": HELLO + b"\x04\x05\x04PING",
    "a command with more": HELLO[:64] + b"\x05\x06\x05READY",
    "flags that are none": HELLO + b"\x80\x00",
}


@pytest.mark.parametrize("said", STRANGERS.values(), ids=STRANGERS)
def test_strangers(said: bytes) -> None:
    """What is no ZMTP 3 in the clear is told so."""
    made = Incoming(1000)
    with pytest.raises(WireError):
        everything(made, said)


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(st.binary(max_size=2000), st.integers(1, 500))
def test_any_bytes(data: bytes, cut: int) -> None:
    """They are messages, or an end; nothing else, and no more is kept than was bounded."""
    made = incoming(500)
    try:
        found = everything(made, data, cut)
    except WireError:
        return
    assert all(message is TooLarge.MESSAGE or sum(map(len, message)) <= 500 for message in found)
    assert len(made._buffer) + sum(map(len, made._frames)) <= 500 + 500 + 9
