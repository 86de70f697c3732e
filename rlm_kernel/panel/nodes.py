"""Foreign text as trees of plain data that the browser builds elements from: `["p", "text", ["b", "bold"]]`.

A node is a text or a list whose first item names its kind. The browser knows these kinds alone, gives every text as
text, and checks links again, so nothing in a node can become markup or script.
"""

from __future__ import annotations

import functools
from typing import Any

from markdown_it.token import Token as MarkdownToken
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String

from rlm_kernel.render.clean import clean, clip, count
from rlm_kernel.render.prose import code_tokens, prose_tokens
from rlm_kernel.render.values import Block, Form, Items, Plain, Table, Text

__all__ = ["Node", "code", "form", "prose", "table"]

Node = Any
"""A text, or `[kind, *nodes]`; a link is `["a", url, *nodes]`, code is `["pre", spans]`."""

_CLASSES = (
    (Comment, "c"), (Keyword.Constant, "n"), (Keyword, "k"), (Operator.Word, "k"), (Name.Function, "f"),
    (Name.Class, "f"), (Name.Decorator, "f"), (Name.Builtin, "b"), (Number, "n"), (String.Interpol, "n"), (String, "s"),
    (Generic.Error, "e"),
)  # fmt: skip
"""Kinds of token that have a colour; the first that fits counts."""
_KINDS = {
    "paragraph": "p", "heading": "h", "bullet_list": "ul", "ordered_list": "ol", "list_item": "li", "blockquote": "q",
    "table": "table", "thead": "thead", "tbody": "tbody", "tr": "tr", "th": "th", "td": "td", "strong": "b", "em": "i",
    "s": "s",
}  # fmt: skip


def prose(text: str) -> list[Node]:
    """Markdown as nodes."""
    return _nested(prose_tokens(text))


def code(text: str, language: str = "python") -> list[Node]:
    """Code as spans: a text, or `[class, text]`; joined they are the cleaned code."""
    spans: list[Node] = []
    last = ""
    for kind, piece in code_tokens(text, language):
        name = _class_of(kind)
        if spans and (name == last or piece.isspace()):
            if isinstance(spans[-1], str):
                spans[-1] += piece
            else:
                spans[-1][1] += piece
        else:
            spans.append([name, piece] if name else piece)
            last = name
    return spans


@functools.cache
def _class_of(kind: Any) -> str:
    return next((letter for of, letter in _CLASSES if kind in of), "")


def form(value: Form) -> list[Node]:
    """A value in its form."""
    if isinstance(value, Text):
        return prose(value.text)
    if isinstance(value, Plain):
        return [["big", value.text]]
    if isinstance(value, Block):
        return [["pre", [value.text]]]
    if isinstance(value, Items):
        more = [["note", count(value.more, "more item")]] if value.more else []
        return [["ul", *(["li", item] for item in value.items)], *more]
    return table(value)


def table(shown: Table) -> list[Node]:
    """A table, and how much of it is not there."""
    kinds = ["num" if shown.numeric(i) else "td" for i in range(shown.width)]
    made: list[Node] = ["table"]
    if shown.columns:
        heads = [["thnum" if kinds[i] == "num" else "th", name] for i, name in enumerate(shown.columns)]
        made.append(["thead", ["tr", *heads]])
    made.append(["tbody", *(["tr", *([kinds[i], cell] for i, cell in enumerate(row))] for row in shown.rows)])
    left = [count(shown.more_rows, "more row")] if shown.more_rows else []
    left += [count(shown.more_columns, "more column")] if shown.more_columns else []
    return [made, ["note", " and ".join(left)]] if left else [made]


def _nested(tokens: list[MarkdownToken]) -> list[Node]:
    """The flat tokens as a tree."""
    stack: list[list[Node]] = [[]]
    for token in tokens:
        if token.nesting == 1:
            node = _opened(token)
            stack[-1].append(node)
            stack.append(node)
        elif token.nesting == -1:
            stack.pop()
        elif token.type == "inline":
            stack[-1].extend(_nested(token.children or []))
        elif (leaf := _leaf(token)) is not None:
            stack[-1].append(leaf)
    return stack[0]


def _opened(token: MarkdownToken) -> list[Node]:
    kind = token.type.removesuffix("_open")
    if kind == "link":
        return ["a", str(token.attrs.get("href", ""))]
    if token.hidden:
        return ["tight"]
    if kind in ("th", "td") and "right" in str(token.attrs.get("style", "")):
        return ["thnum" if kind == "th" else "num"]
    return [_KINDS.get(kind, "p")]


def _leaf(token: MarkdownToken) -> Node | None:
    match token.type:
        case "text":
            return token.content
        case "code_inline":
            return ["c", clean(token.content)]
        case "fence" | "code_block":
            return ["pre", code(token.content, (token.info.split() or ["text"])[0])]
        case "softbreak" | "hardbreak":
            return ["br"]
        case "hr":
            return ["hr"]
        case "image":
            return ["i", f"[image: {clip(token.content, 80) or 'no description'}]"]
    return None
