"""Untrusted Markdown and code as HTML that can do nothing: no raw HTML, no images, links to http, https and mailto.

Only inline `style` attributes, because stylesheets and classes do not survive in saved notebooks; each property used
passes JupyterLab's sanitizer, and the page reads well when all of them are stripped.
"""

from __future__ import annotations

import functools
import html
import re
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.style import Style
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String, Token
from pygments.util import ClassNotFound

from rlm_kernel.render.clean import clean, clip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it.token import Token as MarkdownToken

__all__ = ["CELL", "HAIRLINE", "MONO", "TABLE", "code_html", "code_tokens", "escape", "prose_html", "prose_tokens"]

HAIRLINE = "1px solid rgba(127,127,127,0.28)"
MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
TABLE = "border-collapse:collapse;margin:4px 0 8px 0;font-size:0.93em;width:auto"
CELL = f"padding:3px 14px 3px 0;border-bottom:{HAIRLINE};vertical-align:top;white-space:normal;overflow-wrap:break-word"
CODE = (
    f"{MONO};font-size:0.88em;line-height:1.5;color:#d5dae3;background-color:#262b36;padding:9px 12px;margin:6px 0;"
    "border-radius:5px;white-space:pre-wrap;overflow-wrap:break-word"
)
_STYLES = {
    "paragraph_open": "margin:0 0 7px 0",
    "bullet_list_open": "margin:0 0 7px 0;padding-left:24px",
    "ordered_list_open": "margin:0 0 7px 0;padding-left:24px",
    "list_item_open": "margin:2px 0",
    "blockquote_open": "margin:0 0 7px 0;padding:0 0 0 12px;border-left:3px solid rgba(127,127,127,0.35)",
    "table_open": TABLE,
    "th_open": CELL,
    "td_open": CELL,
}
NESTED = 20
"""As deep may lists and quotations stand in each other."""
_MATH = re.compile(r"[$\\]")


class _Slate(Style):
    """Few, soft colours on a fixed dark ground: the same in a light and in a dark theme."""

    background_color = "#262b36"
    styles = {  # noqa: RUF012 - the way Pygments wants it
        Token: "#d5dae3",
        Comment: "#8b95a7",
        Keyword: "#c9a5ea",
        Keyword.Constant: "#e5b07b",
        Name.Function: "#8cbcf2",
        Name.Class: "#8cbcf2",
        Name.Builtin: "#7fc8c8",
        Name.Decorator: "#8cbcf2",
        Number: "#e5b07b",
        String: "#a9cf8f",
        String.Interpol: "#e5b07b",
        Operator.Word: "#c9a5ea",
        Generic.Error: "#f0918a",
    }


def escape(text: str) -> str:
    """`text` for an HTML page: cleaned, escaped, and with nothing left that MathJax would take for a formula."""
    return _MATH.sub(lambda m: f"<span>{m[0]}</span>", html.escape(clean(text)))


def code_html(code: str, language: str = "python") -> str:
    """Code in a block of its own colours."""
    code = clean(code).strip("\n")
    body = highlight(code, _lexer(language), _FORMATTER).rstrip("\n")
    body = body.replace('<span style="color: #d5dae3">', "<span>").replace('style="color: ', 'style="color:')
    body = re.sub(r"<span>([^<]*)</span>", r"\1", body)
    return f'<pre style="{CODE}">{body}</pre>'


def prose_html(text: str) -> str:
    """Markdown from a model as HTML; the caller has bounded its length."""
    return str(_MARKDOWN.renderer.render(prose_tokens(text), _MARKDOWN.options, {}))


def prose_tokens(text: str) -> list[MarkdownToken]:
    """Markdown from a model as the tokens that `prose_html` is made from; their text is clean.

    What is nested deeper than anybody writes is no Markdown but plain text: the parser would leave it out.
    """
    text = clean(text)
    made = _MARKDOWN.parse(text)
    return _PLAIN.parse(text) if any(t.nesting == 1 and t.level >= NESTED - 1 for t in made) else made


def code_tokens(code: str, language: str = "python") -> Iterator[tuple[Any, str]]:
    """Code as Pygments' tokens: `(type, text)`, clean, joined the code again."""
    return iter(_lexer(language).get_tokens(clean(code).strip("\n")))


@functools.cache
def _known(language: str) -> Any:
    return get_lexer_by_name(language, stripnl=False, ensurenl=False)


def _lexer(language: str) -> Any:
    language = {"repl": "python", "py": "python"}.get(language.lower(), language.lower())
    try:
        return _known(language if len(language) <= 20 else "text")
    except ClassNotFound:
        return _known("text")


def _links(url: str) -> bool:
    return bool(re.match(r"(?:https?://|mailto:)[^\s]+$", url, re.IGNORECASE)) and len(url) <= 2000


def _open(self: Any, tokens: Sequence[MarkdownToken], at: int, options: Any, env: Any) -> str:
    token = tokens[at]
    style = _STYLES[token.type]
    if "text-align:right" in str(token.attrs.get("style", "")):
        style += ";text-align:right"
    elif token.type in ("td_open", "th_open"):
        style += ";text-align:left"
    start = f' start="{token.attrs["start"]}"' if "start" in token.attrs else ""
    return "" if token.hidden else f'<{token.tag}{start} style="{style}">'


def _heading(self: Any, tokens: Sequence[MarkdownToken], at: int, options: Any, env: Any) -> str:
    # A real heading of the model's would enter the notebook's table of contents.
    return '<p style="margin:8px 0 5px 0"><strong>' if tokens[at].nesting == 1 else "</strong></p>"


def _fence(self: Any, tokens: Sequence[MarkdownToken], at: int, options: Any, env: Any) -> str:
    return code_html(tokens[at].content, (tokens[at].info.split() or ["text"])[0])


def _text(self: Any, tokens: Sequence[MarkdownToken], at: int, options: Any, env: Any) -> str:
    return escape(tokens[at].content)


def _code(self: Any, tokens: Sequence[MarkdownToken], at: int, options: Any, env: Any) -> str:
    style = f"{MONO};font-size:0.9em;background-color:rgba(127,127,127,0.14);padding:1px 4px;border-radius:3px"
    return f'<code style="{style}">{html.escape(clean(tokens[at].content))}</code>'


def _link(self: Any, tokens: Sequence[MarkdownToken], at: int, options: Any, env: Any) -> str:
    href = html.escape(str(tokens[at].attrs.get("href", "")))
    return f'<a href="{href}" rel="noopener noreferrer nofollow" style="text-decoration:underline">'


def _image(self: Any, tokens: Sequence[MarkdownToken], at: int, options: Any, env: Any) -> str:
    return f"<em>[image: {escape(clip(tokens[at].content, 80) or 'no description')}]</em>"


def _rule(self: Any, tokens: Sequence[MarkdownToken], at: int, options: Any, env: Any) -> str:
    return f'<hr style="border:none;border-top:{HAIRLINE};margin:10px 0">'


def _markdown() -> MarkdownIt:
    md = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": NESTED})
    md.enable(["table", "strikethrough"])
    md.validateLink = _links  # type: ignore[method-assign]  # its documented hook
    rules = dict.fromkeys(_STYLES, _open) | {
        "heading_open": _heading, "heading_close": _heading, "fence": _fence, "code_block": _fence, "text": _text,
        "code_inline": _code, "link_open": _link, "image": _image, "hr": _rule,
    }  # fmt: skip
    for name, rule in rules.items():
        md.add_render_rule(name, rule)
    return md


_FORMATTER = HtmlFormatter[str](nowrap=True, noclasses=True, style=_Slate)
_MARKDOWN = _markdown()
_PLAIN = MarkdownIt("zero", {"html": False, "breaks": True}).enable("newline")
