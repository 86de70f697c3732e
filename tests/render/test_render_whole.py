"""Nothing that a run said is lost on the way to the page, and the page stays one piece wherever it is put."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from render_reader import Page
from story_maker import everywhere, run

from rlm_kernel import events as ev
from rlm_kernel.panel import nodes
from rlm_kernel.render import answer_html, to_html, to_markdown
from rlm_kernel.render.prose import prose_html
from rlm_kernel.trajectory import Trajectory


@pytest.mark.parametrize("levels", [1, 8, 9, 10, 18, 19, 20, 21, 50, 3000])
@pytest.mark.parametrize("mark", ["> ", "- ", "1. ", "- > "])
def test_deep_text_is_shown(mark: str, levels: int) -> None:
    """However deep it stands in lists and quotations, in the page and in the panel."""
    for end in ("deep", "```\n" + mark * levels + "deep", "# deep"):
        text = f"Before.\n\n{mark * levels}{end}\n\nAfter."
        for shown in (Page(prose_html(text)).text, str(nodes.prose(text))):
            assert shown.index("Before") < shown.index("deep") < shown.index("After")


def test_what_nobody_nests_deeper_is_still_markdown() -> None:
    """Eight lists in each other are lists."""
    text = "\n".join("  " * level + f"- **{level}**" for level in range(8))
    assert prose_html(text).count("<ul") == 8
    assert prose_html(text).count("<strong>") == 8


@pytest.mark.parametrize(
    "text", ["a\n\nb", "a\n \t\n\n\nb", "\n" * 50 + "![x](https://evil.example/x.png)\n\n# b\n\n---"]
)
def test_the_page_is_one_block_in_markdown(text: str) -> None:
    """A blank line would end it there, and what follows in a block of output would be read as Markdown."""
    for page in (to_html(everywhere(text)), answer_html(everywhere(text))):
        kinds = [token.type for token in MarkdownIt("commonmark").parse(f"before\n\n{page}\n\nafter")]
        paragraph = ["paragraph_open", "inline", "paragraph_close"]
        assert kinds == [*paragraph, "html_block", *paragraph]


def test_blank_lines_are_kept() -> None:
    """They are in the page's text as they were in the code."""
    assert "first()\n\n\n  \nlast()" in Page(to_html(run(code="first()\n\n\n  \nlast()", reply="```repl\nx\n```"))).text


def test_an_iteration_without_a_reply_says_so() -> None:
    """It is empty, not too large to show."""
    begun = Trajectory.fold(
        [
            ev.RunStarted(
                run="1", at=0, question="Q", signature="-> n: int", model="m", sub_model="m", max_iterations=3,
                max_llm_calls=3,
            ),
            ev.IterationStarted(run="1", at=0, iteration=1, prompt="go"),
        ]
    )  # fmt: skip
    assert Page(to_html(begun)).text.count("no reply") == 2
    assert "too large" not in to_html(begun)
    assert "trajectory" not in to_markdown(begun)


def test_no_text_is_coloured() -> None:
    """Only marks are: no colour can be read as text on white and on black. Code has its own ground."""
    page = to_html(everywhere("x"))
    texts = re.findall(r'style="color:#(?:279455|a87412|d64f45)">([^<]*)<', page)
    assert set(texts) == {"●", "✓", "✗"}
