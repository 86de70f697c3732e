"""Nodes: Markdown, code and tables as plain data that the browser cannot take for anything else."""

from __future__ import annotations

from typing import Any

import pytest

from rlm_kernel.panel import nodes
from rlm_kernel.render.values import Table, form


def text_of(node: Any) -> str:
    """All text below a node, whatever its kind."""
    if isinstance(node, str):
        return node
    return (
        "".join(text_of(child) for child in node[1:])
        if node and isinstance(node[0], str)
        else "".join(map(text_of, node))
    )


def test_markdown_becomes_nodes() -> None:
    """Emphasis, lists, code and links keep their meaning."""
    made = nodes.prose("Hello **you** and `x`\n\n- a\n- b\n\n[site](https://a.org)")
    assert made == [
        ["p", "Hello ", ["b", "you"], " and ", ["c", "x"]],
        ["ul", ["li", ["tight", "a"]], ["li", ["tight", "b"]]],
        ["p", ["a", "https://a.org", "site"]],
    ]


def test_a_table_in_markdown() -> None:
    """Numbers stand to the right when the model says so."""
    made = nodes.prose("| a | b |\n|---|--:|\n| x | 1 |")
    assert made == [
        ["table", ["thead", ["tr", ["th", "a"], ["thnum", "b"]]], ["tbody", ["tr", ["td", "x"], ["num", "1"]]]]
    ]


@pytest.mark.parametrize(
    "hostile",
    [
        "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x](data:text/html,<script>)", "[x](vbscript:x)",
        "[x](file:///etc/passwd)", "<a href='javascript:1'>x</a>", "![x](https://evil.org/p.png)", "[x](//evil.org)",
    ],
)  # fmt: skip
def test_no_link_but_to_the_web(hostile: str) -> None:
    """What is no plain web or mail address stays text; an image is named and never loaded."""

    def links(node: Any) -> list[str]:
        if not isinstance(node, list):
            return []
        own = [node[1]] if node[:1] == ["a"] else []
        return own + [url for child in node for url in links(child)]

    assert links(nodes.prose(hostile)) == []


def test_markup_stays_text() -> None:
    """HTML in prose is told letter by letter."""
    assert nodes.prose("<img src=x onerror=alert(1)>") == [["p", "<img src=x onerror=alert(1)>"]]


def test_code_keeps_every_character() -> None:
    """The spans of code, joined, are the code."""
    code = 'def f(x):\n    """Say."""\n    return f"{x:.2f}" if x > 1.5 else None  # so\n'
    spans = nodes.code(code)
    assert "".join(s if isinstance(s, str) else s[1] for s in spans) == code.strip("\n")
    assert ["k", "def "] in spans
    assert ["c", "# so"] in spans


def test_unseen_characters_are_shown() -> None:
    """A mark that turns the reading direction is no character of the output."""
    assert "\u202e" not in str(nodes.prose("abc\u202edef")) + str(nodes.code("x = '\u202e'"))
    assert text_of(nodes.prose("abc\u202edef")) == "abc\\u202edef"


def test_a_table_says_what_is_left_out() -> None:
    """Rows and columns that are not there are counted."""
    made = nodes.table(Table(("n",), (("1",), ("2",)), more_rows=3, more_columns=1))
    assert made[-1] == ["note", "3 more rows and 1 more column"]
    assert made[0][2] == ["tbody", ["tr", ["num", "1"]], ["tr", ["num", "2"]]]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("text", "p"),
        (3, "big"),
        ([1, 2], "ul"),
        ({"a": 1}, "table"),
        (object(), "pre"),
        (None, "big"),
        ([{"a": 1}], "table"),
    ],
)
def test_each_value_has_a_form(value: object, kind: str) -> None:
    """Text, numbers, lists, mappings and records, each in its own."""
    assert nodes.form(form(value))[0][0] == kind
