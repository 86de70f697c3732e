"""A message off the wire: what is no message of our kernel's raises ValueError, in little time, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_client.session import DELIM, Session

from rlm_kernel.sandbox.messages import MAX_CONTAINERS, MAX_DEPTH, MAX_DIGITS, MAX_HEADER_BYTES, Message, loads, read

SESSION = Session(key=b"key")


def frames(header: object, parent: object = None, content: object = None, *idents: bytes) -> list[bytes]:
    """A signed message; what is bytes already is taken as it is."""
    parts = [x if isinstance(x, bytes) else json.dumps(x or {}).encode() for x in (header, parent, {}, content)]
    return [*idents, DELIM, SESSION.sign(parts), *parts]


@pytest.fixture
def unlimited() -> Iterator[None]:
    """A notebook in which Python was told to read numbers of any length."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


def test_a_message() -> None:
    """Its kind, its parent and its content; identities before it and buffers after it are passed over."""
    sent = frames({"msg_type": "stream"}, {"msg_id": "p"}, {"text": "é\n"}, b"topic")

    assert Message("stream", "p", {"text": "é\n"}) == read(SESSION, [*sent, b"buffer"])
    assert Message("", "", {}) == read(SESSION, frames({"msg_type": ["x"]}, {"msg_id": 7}))


def test_another_parent_is_not_looked_at() -> None:
    """Of what does not belong to the cell nothing but the parent is parsed."""
    sent = frames(b"no JSON", {"msg_id": "other"}, b"no JSON")

    assert read(SESSION, sent, "mine") is None
    with pytest.raises(ValueError):
        read(SESSION, sent, "other")


MALFORMED = {
    "nothing": [],
    "empty": [b""],
    "no delimiter": [b"x"] * 8,
    "too few": [DELIM, b"", b"{}", b"{}"],
    "unsigned": [DELIM, b"", *[b"{}"] * 4],
    "signed by another": [DELIM, Session(key=b"other").sign([b"{}"] * 4), *[b"{}"] * 4],
    "a signature of odd bytes": [DELIM, b"\xff" * 100, *[b"{}"] * 4],
    "a list": frames(b"[]"),
    "a number": frames({}, b"7"),
    "text": frames({}, {}, b'"x"'),
    "null": frames(b"null"),
    "NaN": frames({}, {}, b'{"a": NaN}'),
    "infinity": frames({}, {}, b'{"a": [-Infinity]}'),
    "empty content": frames({}, {}, b""),
    "rubbish": frames({}, {}, b"\xff\xfe\0"),
    "a long header": frames({"msg_type": "x" * MAX_HEADER_BYTES}),
    "a long parent": frames({}, {"msg_id": "x" * MAX_HEADER_BYTES}),
    "keys that are no text": frames({}, {}, b"{1: 2}"),
    "two values": frames({}, {}, b"{} {}"),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_message(sent: list[bytes]) -> None:
    """It is refused."""
    with pytest.raises(ValueError):
        read(SESSION, sent)


def test_bytes_that_are_no_text() -> None:
    """They cost no message: a reply that was lost for one character would never end its cell."""
    message = read(SESSION, frames({"msg_type": "k"}, {}, b'{"text": "a\xff\xed\xa0\x80b"}'))

    assert message is not None
    assert message.content["text"].startswith("a\ufffd")
    assert message.content["text"].isprintable()


def test_a_name_that_comes_twice() -> None:
    """The last one counts, for everybody: there is one parser."""
    assert loads('{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("opening", "closing", "levels"),
    [("[", "]", 1), ('{"a":', "}", 1), ('[{"a":', "}]", 2), (r'[[],"\"[",', "]", 1)],
    ids=["lists", "objects", "both", "among others"],
)
def test_nesting(opening: str, closing: str, levels: int) -> None:
    """It is refused before the parser, which would go as deep as the stack lets it; short of the bound it is read."""
    below, above = MAX_DEPTH // levels - 1, MAX_DEPTH // levels + 1

    assert loads(opening * below + "0" + closing * below)
    for text in (opening * above + "0" + closing * above, opening * 1_000_000):
        with pytest.raises(ValueError, match="nested"):
            loads(text)


def test_brackets_in_text_are_no_nesting() -> None:
    """Text may hold any number of them, escaped quotes between."""
    text = ['[{"' * 100_000, "\\" * 99_999, '\\"[' * 1000]

    assert text == loads(json.dumps(text))


def test_wide_but_flat() -> None:
    """Many short lists are no nesting; too many are refused."""
    assert len(loads("[" + "[]," * 100_000 + "0]")) == 100_001
    with pytest.raises(ValueError, match="too often"):
        loads("[" + "[]," * MAX_CONTAINERS + "0]")


@pytest.mark.parametrize("text", ['"' + '\\"' * 2_000_000, '["' * 2_000_000, "[" * 300 + '"' + "\\" * 2_000_001])
def test_texts_that_do_not_end(text: str) -> None:
    """They are refused in linear time: in any other this test would not end."""
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize("text", ["1" * 20_000_000, "[" + "-" + "9" * 20_000_000 + "]"])
def test_numbers_of_millions_of_digits(unlimited: None, text: str) -> None:
    """They are refused, even where Python would read them for hours."""
    with pytest.raises(ValueError):
        loads(text)


def test_long_numbers(unlimited: None) -> None:
    """What Python reads by default is read; a long fraction is a float like any other."""
    assert loads("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1
    assert loads("0." + "1" * 1_000_000) == pytest.approx(1 / 9)
    assert loads("1e999999999") == float("inf")


def test_constants_of_pythons() -> None:
    """A submission may hold NaN, a message of the protocol may not."""
    assert loads("[NaN, Infinity]", constants=True)[1] == float("inf")
    with pytest.raises(ValueError, match="no JSON"):
        loads("[NaN]")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None, derandomize=True, database=None)
@given(json_values)
def test_any_value(value: object) -> None:
    """Whatever is JSON is read as it is."""
    assert value == loads(json.dumps(value))


@settings(deadline=None, derandomize=True, database=None)
@given(st.text() | st.lists(st.sampled_from(list('[]{}":,\\1e-')), max_size=400).map("".join))
def test_any_text(text: str) -> None:
    """It is a value or a ValueError, as Python's own reader says."""
    try:
        expected = json.loads(text)
    except (ValueError, RecursionError):
        with pytest.raises(ValueError):
            loads(text)
    else:
        assert repr(expected) == repr(loads(text, constants=True))
