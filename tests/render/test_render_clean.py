"""`clean` and the functions that shorten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from render_reader import UNSEEN

from rlm_kernel.render.clean import clean, clip, excerpt, fit, stream

ANY = st.text(st.characters(exclude_categories=[]), max_size=200)


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("plain ünïcödé 漢字 👩‍👩‍👧", "plain ünïcödé 漢字 👩‍👩‍👧"),
        ("\x1b[31mred\x1b[0m \x1b[1;38;5;200mpink\x1b[m", "red pink"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x1b\\ \x1b]0;title\x07", "link "),
        ("\x9b31mred", "red"),
        ("a\x1b]never ended", "a\\x1b]never ended"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("a\u200bb\u2066c\ufeff", "a\\u200bb\\u2066c\\ufeff"),
        ("a\u200db", "a\\u200db"),
        ("nul\x00 bell\x07 back\x08", "nul\\x00 bell\\x07 back\\x08"),
        ("half \ud83d", "half \\ud83d"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("para\u2029graph\u2028", "para\\u2029graph\\u2028"),
        ("z" + "\u0301" * 50, "z" + "\u0301" * 4),
        ("tab\tand\nline", "tab\tand\nline"),
    ],
)
def test_clean_shows_what_cannot_be_seen(dirty: str, expected: str) -> None:
    """ANSI goes, every unseen character is spelled out, honest text stays as it is."""
    assert expected == clean(dirty)


@given(ANY)
def test_clean_text_can_be_encoded_and_stays_as_it_is(text: str) -> None:
    """Whatever comes in, what comes out is UTF-8, holds nothing unseen, and cleaning it again changes nothing."""
    made = clean(text)
    made.encode()
    assert not UNSEEN.search(made)
    assert made == clean(made)


def test_stream_keeps_the_last_state_of_a_progress_bar() -> None:
    """A carriage return overwrites its line, as in a terminal."""
    assert stream(" 10%\r 50%\r100%\ndone") == "100%\ndone"


@given(ANY, st.integers(1, 50))
def test_clip_gives_one_short_line(text: str, limit: int) -> None:
    """No newline, never longer than asked."""
    made = clip(text, limit)
    assert "\n" not in made
    assert len(made) <= limit


@given(ANY, st.integers(3, 100), st.integers(1, 20))
def test_excerpt_keeps_what_fits(text: str, chars: int, lines: int) -> None:
    """Text within the limits is only cleaned; other text keeps its head, its tail and a note."""
    made = excerpt(text, chars, lines)
    line = text.removesuffix("\n")
    if len(line) <= chars and line.count("\n") < lines:
        assert clean(text) == made
    else:
        assert "left out, in rlm_result.trajectory" in made
        assert "… -" not in made or "… -" in text
        assert "… 0 characters" not in made or "… 0 characters" in text


def test_a_line_end_at_the_end_is_no_line_more() -> None:
    """One line with its end is one line; of more than fit, the last one that says something is kept."""
    assert excerpt("one\n", 100, 1) == "one\n"
    assert (
        excerpt("one\ntwo\nthree\nfour\n", 100, 3)
        == "one\ntwo\n… 7 characters left out, in rlm_result.trajectory …\nfour"
    )


def test_excerpt_of_many_megabytes_is_quick_and_short() -> None:
    """A single line of 20 MB costs no more than its two ends."""
    made = excerpt("x" * 20_000_000, 1000, 20)
    assert len(made) < 1200
    assert made.startswith("xxx")
    assert made.endswith("xxx")


def test_fit_takes_the_largest_that_fits() -> None:
    """The first scale within the cap is taken; without one there is nothing."""
    assert fit(50, lambda s: "x" * int(100 * s)) == "x" * 30
    assert fit(5, lambda s: "x" * int(100 * s)) is None
