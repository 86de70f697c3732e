"""A run made visible: HTML, Markdown and text of the whole story, and the live view as text.

Everything here is a function from a `Trajectory` to a string. Nothing here runs, asks or keeps anything, and every
string that comes out has passed through `clean`.
"""

from __future__ import annotations

from rlm_kernel.render.clean import clean
from rlm_kernel.render.html import answer_html, to_html
from rlm_kernel.render.live import TextView
from rlm_kernel.render.markdown import answer_markdown, to_markdown
from rlm_kernel.render.text import answer_text, to_text

__all__ = [
    "TextView",
    "answer_html",
    "answer_markdown",
    "answer_text",
    "clean",
    "to_html",
    "to_markdown",
    "to_text",
]
