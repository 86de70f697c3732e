"""Text from models, sandboxes and data can do nothing in any of the three forms."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from render_reader import UNSEEN, Page
from story_maker import everywhere

from rlm_kernel.render import answer_html, answer_markdown, answer_text, to_html, to_markdown, to_text

PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script src=//evil>",
    "<img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)" onclick=alert(1)>x</a>',
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt&colon;alert(1))",
    "[click](java\nscript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "[click](vbscript:msgbox)",
    "[click](file:///etc/passwd)",
    "[click](//evil.example)",
    "[click][1]\n\n[1]: javascript:alert(1)",
    "<javascript:alert(1)>",
    '<https://ok.example/"onclick=alert(1)>',
    "![pixel](https://evil.example/track.png)",
    "![pixel][2]\n\n[2]: https://evil.example/track.png",
    "<img src=https://evil.example/a.png>",
    "<!-- comment --> --> <!--",
    "<![CDATA[ x ]]> ]]>",
    "<?php system('x') ?>",
    "<!DOCTYPE html>",
    "</details></blockquote></div><h1>free</h1>",
    "<details open><summary>mine</summary>",
    "</pre></code><iframe src=//evil>",
    "<style>*{display:none}</style>",
    "<textarea><title><xmp><plaintext>",
    "```\n```\n</pre>\n````",
    "`" * 5000,
    "~" * 3000 + "`" * 3000,
    "\x1b[31mred\x1b[0m\x1b]0;owned\x07\x1b[2J",
    "abc\u202e\u2066txt.exe\u2069",
    "&#x202e;&#8203;&lt;script&gt;&NewLine;",
    "zero\u200bwidth\ufeff\u00ad",
    "nul\x00\x08\x0c",
    "half \ud800 and \udfff",
    "| a | b |\n|---|---|\n| <b>x</b> | [y](javascript:1) |",
    "a | b | <script>",
    "$\\href{javascript:alert(1)}{x}$ and \\(x\\) and $$y$$",
    "x" * 1_000_000,
    "> " * 2000 + "deep",
    "[" * 3000 + "](" * 3000,
    "*" * 5000 + "_" * 5000,
    "# Heading\n## Other\n===\n---",
    "<" * 20_000,
    "&" * 20_000,
    "\n" * 10_000,
    "a\n\n\n    indented <script>\n\n- list\n  - <script>",
    "%%html\n<script>",
    "constructor __proto__ {{7*7}} ${7*7} {x}",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: ascii(p[:30]))
def test_hostile_text_is_only_text(payload: str) -> None:
    """Of every payload, in every place, only text, allowed tags and honest links are left."""
    t = everywhere(payload)
    source = to_html(t)
    page = Page(source)
    assert not page.faults
    assert not UNSEEN.search(page.text)
    for made in (source, to_markdown(t), to_text(t), answer_html(t), answer_markdown(t), answer_text(t)):
        made.encode()
        assert not UNSEEN.search(made)
    assert sum(len(made.encode()) for made in (source, to_markdown(t), to_text(t))) <= 300_000
    assert not Page(answer_html(t)).faults


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: ascii(p[:30]))
def test_hostile_text_does_nothing_as_markdown(payload: str) -> None:
    """A reader that lets raw HTML through finds no tag, no image and no bad link in the Markdown form."""
    made = to_markdown(everywhere(payload))
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    reader.validateLink = lambda url: True  # type: ignore[method-assign]
    kinds, links = set(), []
    queue = list(reader.parse(made))
    while queue:
        token = queue.pop()
        kinds.add(token.type)
        links += [str(token.attrs["href"])] if "href" in token.attrs else []
        queue += token.children or []
    assert not kinds & {"html_block", "html_inline", "image"}
    assert not [link for link in links if not re.match(r"(https?://|mailto:)", link)]
    assert [t.type for t in reader.parse(made) if t.type == "heading_open"] == []


def test_links_to_the_web_work() -> None:
    """http, https and mailto links stay links; an image becomes its description."""
    page = Page(
        to_html(everywhere("[a](https://example.org/x?a=1&b=2) <mailto:me@example.org> ![b](https://e.org/i.png)"))
    )
    assert {"https://example.org/x?a=1&b=2", "mailto:me@example.org"} == set(page.hrefs)
    assert "[image: b]" in page.text


def test_money_is_no_formula() -> None:
    """MathJax finds no pair of dollars in the page: each stands in an element of its own."""
    assert "<span>$</span>5 and <span>$</span>10" in to_html(everywhere("It costs $5 and $10"))
