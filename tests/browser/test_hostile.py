"""Texts from models, sandboxes and data are only text in a real browser: live, settled, and shown again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.audit import PANEL, SETTLED, Watch, faults
from tests.browser.conftest import Opens
from tests.browser.page import NotebookPage
from tests.browser.payloads import BIG, SMALL, Payload

START = """
%load_ext rlm_kernel
from pathlib import Path
from IPython.display import HTML
from tests.browser import payloads as texts, stage
payloads = [p.text for p in texts.{texts}[{start}:{end}]]
go = Path({go!r})
HTML("here is $x^2$")
"""
RUN = 'get_ipython().run_cell_magic("rlm", stage.prepare(payloads, go), "\\n".join(p[:100] for p in payloads))'
PLACES = ["prose", "thinking", "code", "stdout", "stderr", "display", "cells", "error", "variables"]
PLACES += ["asked", "said", "detail"]
"""Where each text has to be seen in an iteration of the panel."""
READ = """(number) => {
  const it = document.querySelector(`.rlm-list > .rlm-run > [data-n="${number}"]`);
  const out = ".rlm-cell > div:nth-child(2) ";
  const read = (css) => [...it.querySelectorAll(css)].map((el) => el.textContent.slice(0, 60000));
  return {
    prose: read(".rlm-prose"), thinking: read(".rlm-think"), code: read(".rlm-code"), stdout: read(".rlm-stdout"),
    stderr: read(".rlm-stderr"), display: read(".rlm-display, .rlm-result"), cells: read(`${out}td, ${out}th`),
    error: read(".rlm-out.rlm-error"), variables: read(".rlm-vars"), asked: read(".rlm-asked"), said: read(".rlm-said"),
    detail: read(".rlm-detail .rlm-out"), notes: read(".rlm-body > .rlm-note"), child: read(".rlm-detail .rlm-run"),
    images: read("img"),
  };
}"""
OPEN = """() => document.querySelectorAll("%s details:not([open]) > summary").forEach((el) => el.click())"""
FILLED = """() => [...document.querySelectorAll(".rlm-it[open] > .rlm-body, .rlm-detail:not([hidden])")].every(
  (el) => el.firstChild && !(el.children.length === 1 && el.firstChild.className === "rlm-note"))"""
CHOOSE = (
    """(at) => document.querySelectorAll(".rlm-calls").forEach((el) => el.querySelector(`[data-at="${at}"]`).click())"""
)
WHOLE = slice(None, None)
FORMULAS = "() => document.querySelectorAll('mjx-container, .MathJax').length"


class Stage:
    """A notebook with a run of hostile texts, and what its page does meanwhile."""

    def __init__(self, page: NotebookPage, go: Path, watch: Watch) -> None:
        self.page, self.go, self.watch = page, go, watch
        self.panel: Page = page.page

    def open_all(self, css: str = ".rlm") -> None:
        """Unfold all that can be unfolded."""
        self.panel.evaluate(OPEN % css)
        self.panel.wait_for_function(FILLED)
        self.panel.evaluate(OPEN % css)
        self.panel.wait_for_function(FILLED)

    def choose(self, at: int) -> None:
        """Open the sub-call of this place in every list."""
        self.panel.evaluate(CHOOSE, at)
        self.panel.wait_for_function(FILLED)

    def read(self, number: int) -> dict[str, list[str]]:
        """The texts of an iteration, by place."""
        found: dict[str, list[str]] = self.panel.evaluate(READ, number)
        return {place: [plain(text) for text in texts] for place, texts in found.items()}

    def end(self) -> None:
        """Let the run come to its end."""
        self.go.touch()
        self.page.wait_idle(100)

    def nothing_ran(self, css: str, allowed: dict[str, list[str]]) -> None:
        """All below `css` is ours; no text ran, asked a host for something, led anywhere or became a formula."""
        assert faults(self.panel, css, allowed) == []
        assert self.panel.evaluate("() => typeof window.pwned") == "undefined"
        assert self.watch.seen == []
        assert self.page.errors == []
        assert self.panel.evaluate(FORMULAS) == 1


def plain(text: str) -> str:
    """White space counts as one blank."""
    return " ".join(text.split())


def unseen(payload: Payload, found: dict[str, list[str]], places: Sequence[str]) -> list[str]:
    """The places in which the payload cannot be seen."""
    missing = []
    for place in places:
        wanted = plain(payload.read if place in ("prose", "thinking") else payload.literal)
        wanted = wanted[:40] if place in ("variables", "asked", "said") else wanted
        if not any(wanted in text for text in found[place]):
            missing.append(place)
    return missing


def staged(
    notebook: Opens, context: BrowserContext, folder: Path, *cells: str, texts: str = "SMALL", part: slice = WHOLE
) -> Stage:
    """The notebook, its first cell run: the texts are there."""
    go = folder / "go"
    page = notebook([START.format(texts=texts, start=part.start, end=part.stop, go=str(go)), *cells])
    stage = Stage(page, go, Watch(context, page.server.url))
    page.run(0)
    page.page.wait_for_function(FORMULAS)  # MathJax is there, and works
    return stage


@pytest.mark.parametrize(("texts", "part"), [("SMALL", slice(0, 38)), ("SMALL", slice(38, 99)), ("BIG", WHOLE)])
def test_a_run_of_hostile_texts(
    notebook: Opens, context: BrowserContext, tmp_path: Path, texts: str, part: slice
) -> None:
    """In each place of a real run each text is seen, and does nothing: while it runs, settled, and shown again."""
    stage = staged(notebook, context, tmp_path, RUN, "rlm_result.trajectory.show()", texts=texts, part=part)
    small = texts == "SMALL"
    payloads = (SMALL if small else BIG)[part]
    numbered = list(enumerate(payloads, 2))  # the first iteration makes ready
    with stage.watch:
        stage.page.run(1)
        stage.panel.wait_for_function(
            "() => [...document.querySelectorAll('.rlm-draft')].some((el) => el.textContent.startsWith('HOLD'))",
            timeout=100_000,
        )
        stage.open_all()
        for at in (0, 1):
            stage.choose(at)
            found = {n: stage.read(n) for n, _ in numbered}
            assert [(n, m) for n, p in numbered if (m := unseen(p, found[n], PLACES))] == []
            stage.nothing_ran(".rlm", PANEL)
        assert all(found[n]["images"] for n, _ in numbered)
        draft = plain(stage.panel.locator(".rlm-draft").last.text_content() or "")
        assert [p.text for p in payloads if plain(p.literal) not in draft and small] == []

        stage.end()
        summaries = stage.panel.locator(".jp-RenderedHTML details > summary").all_text_contents()
        assert len([s for s in summaries if " · 2 sub-calls" in s]) == len(payloads)
        stage.nothing_ran(".jp-RenderedHTML > div", SETTLED)

        stage.page.run(2)
        stage.page.wait_idle()
        stage.open_all()
        stage.choose(0)
        assert [(n, m) for n, p in numbered if (m := unseen(p, stage.read(n), PLACES))] == []
        answer = plain(stage.panel.locator(".rlm-answer").text_content() or "")
        assert [p.text for p in payloads if plain(p.literal) not in answer and small] == []
        stage.nothing_ran(".rlm", PANEL)


def test_hostile_texts_where_no_run_puts_them_yet(notebook: Opens, context: BrowserContext, tmp_path: Path) -> None:
    """Notes, models, signatures, kinds of output and of variables, errors, runs below the run: only text as well."""
    stage = staged(notebook, context, tmp_path, "run = stage.perform(payloads, go)")
    places = ["prose", "thinking", "code", "display", "variables", "asked", "said", "detail", "notes"]
    with stage.watch:
        stage.page.run(1)
        stage.panel.wait_for_function(f"() => document.querySelector('.rlm-list [data-n=\"{len(SMALL)}\"]')")
        stage.open_all()
        for at in (0, 1):
            stage.choose(at)
            stage.open_all()
            stage.nothing_ran(".rlm", PANEL)
        found = {n: stage.read(n) for n in range(1, len(SMALL) + 1)}
        assert [(n, m) for n, p in enumerate(SMALL, 1) if (m := unseen(p, found[n], places))] == []
        assert all(found[n]["child"] for n in found)
        stage.end()
        stage.panel.locator(".rlm-over").wait_for()
        stage.nothing_ran(".rlm", PANEL)


def test_hostile_texts_settled(notebook: Opens, context: BrowserContext, tmp_path: Path) -> None:
    """Where a trusted notebook shows a run with the text in every place, it is seen there and does nothing."""
    cells = ("stage.settle(payloads[:40])", "stage.settle(payloads[40:])")  # Lab shows 50 outputs of a cell
    stage = staged(notebook, context, tmp_path, *cells)
    with stage.watch:
        stage.page.run(1)
        stage.page.run(2)
        stage.page.wait_idle()
        stage.open_all(".jp-RenderedHTML")
        stage.nothing_ran(".jp-RenderedHTML > div", SETTLED)
        texts = [plain(text) for text in stage.panel.locator(".jp-RenderedHTML > div").all_text_contents()]
        assert len(texts) == len(SMALL)
        assert [n for n, p in enumerate(SMALL) if texts[n].count(plain(p.literal)) < 20] == []


def test_the_watch_sees(notebook: Opens, context: BrowserContext, tmp_path: Path) -> None:
    """What these tests look for would be found: elements, attributes, links, comments, scripts that ran, requests."""
    stage = staged(notebook, context, tmp_path, "HTML('<div>y</div>')")
    with stage.watch:
        stage.page.run(1)
        stage.page.wait_idle()
        stage.nothing_ran(".jp-RenderedHTML > div", SETTLED)
        stage.panel.evaluate("""() => { document.querySelector(".jp-RenderedHTML > div").innerHTML =
          "<img src=https://rlm.invalid/x onerror=pwned=1><a href=javascript:x>x</a><!-- x --><b>x</b>" }""")
        stage.panel.wait_for_function("() => window.pwned")
    found = faults(stage.panel, ".jp-RenderedHTML > div", SETTLED)
    assert {"a href=javascript:x", "element b", "a comment"} < set(found)
    assert any("img onerror" in fault for fault in found)
    assert any("img src" in fault for fault in found)
    assert stage.watch.seen == ["request https://rlm.invalid/x"]
