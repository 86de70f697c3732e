"""What a saved notebook shows of its runs, complete and in order, wherever it is read."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bleach
import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from markdown_it import MarkdownIt
from nbformat.sign import NotebookNotary
from playwright.sync_api import BrowserContext, Locator, Page, expect

from rlm_kernel.result import Result
from rlm_kernel.trajectory import Trajectory
from tests.browser.audit import SETTLED, Watch, faults
from tests.browser.lab import Server
from tests.browser.page import Front, NotebookPage
from tests.browser.settled import RUNS, html, in_order, outputs, write
from tests.render.story_maker import together

AXE = {"runOnly": ["color-contrast", "image-alt", "list", "listitem", "link-name"]}
ALONE = """() => {
  const alone = document.createElement("div");
  alone.append(...document.querySelectorAll(".jp-RenderedHTML"));
  alone.querySelectorAll("details").forEach((el) => (el.open = true));
  alone.style = "background: var(--jp-layout-color0); position: relative; font-size: var(--jp-content-font-size1)";
  document.getElementById("main").remove();
  document.body.style = "height: auto; overflow: visible";
  document.body.append(alone);
}"""
"""What axe is to look at must be in sight, and Lab shows a part of a notebook."""
BROKEN = "() => [...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.src.slice(0, 60))"
TAGS = (
    "h1 h2 h3 h4 h5 h6 br b i strong em a pre code img tt div ins del sup sub p ol ul table thead tbody tfoot "
    "blockquote dl dt dd kbd q samp var hr ruby rt rp li tr td th s strike summary details span"
)
ATTRIBUTES = {"*": ["align", "alt", "open", "start"], "a": ["href"], "img": ["src"]}
"""What GitHub leaves of HTML in a notebook."""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that was run on another machine, so to say."""
    return write(tmp_path_factory.mktemp("book"))


class Shelf:
    """The server, with notebooks that are written already."""

    def __init__(self, server: Server, book: Path) -> None:
        self.url, self._server, self._book = server.url, server, book

    def write(self, name: str, cells: list[str], *, kernel: str) -> Path:
        """Put the notebook where the server finds it."""
        return Path(shutil.copy(self._book, self._server.notebooks / name))


@pytest.fixture
def reader(context: BrowserContext, lab: Server, book: Path) -> Iterator[Callable[..., NotebookPage]]:
    """Opens the notebook as somebody who has got it from somewhere; trusted if they said so."""
    pages: list[NotebookPage] = []

    def opens(front: Front = "lab", *, trusted: bool = False) -> NotebookPage:
        notary = NotebookNotary(data_dir=str(lab.folder / "data"))
        read: Any = nbformat.read(book, as_version=4)
        (notary.sign if trusted else notary.unsign)(read)
        shelf: Any = Shelf(lab, book)
        pages.append(NotebookPage(context, shelf, [], front=front))
        return pages[-1]

    with Watch(context, lab.url) as watch:
        yield opens
    assert [what for what in watch.seen if what.startswith("request")] == []
    for page in pages:
        page.close()
    lab.shut_kernels_down()


def complete(page: NotebookPage) -> None:
    """Every run is there, in order, folded; its picture is shown; nothing stands in an output that we did not make."""
    for number, parts in RUNS.items():
        run = page.output(number).first
        assert in_order(run.text_content() or "", parts) == []
        assert "model not found" not in page.cell(number).inner_text()
        folds(run.locator("details").first)
    expect(page.output(3).locator("img")).to_have_attribute("alt", "<Figure of hours>")
    assert page.page.evaluate(BROKEN) == []
    assert faults(page.page, ".jp-RenderedHTML > div", SETTLED) == []
    assert "ModelError" in page.cell(7).inner_text()
    assert page.errors == []


def folds(fold: Locator) -> None:
    """What is below the line is hidden until the line is clicked."""
    below = fold.locator("blockquote").first
    expect(below).to_be_hidden()
    fold.locator("summary").first.click()
    expect(below).to_be_visible()
    fold.locator("summary").first.click()
    expect(below).to_be_hidden()


def is_trusted(page: NotebookPage) -> bool:
    """Whether the front end shows the outputs as they are, and not what its sanitizer leaves of them."""
    return "jp-mod-trusted" in (page.output(3).first.get_attribute("class") or "")


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_somebody_elses_notebook(reader: Callable[..., NotebookPage], front: Front) -> None:
    """Untrusted, without a signature: the sanitizer takes nothing away that is needed."""
    page = reader(front)
    assert not is_trusted(page)
    complete(page)


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_my_notebook_on_another_day(reader: Callable[..., NotebookPage], front: Front) -> None:
    """Trusted, with a kernel that knows nothing of the run, and so after that kernel was restarted."""
    page = reader(front, trusted=True)
    assert is_trusted(page)
    complete(page)
    page.restart_kernel()
    complete(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(reader: Callable[..., NotebookPage], lab: Server, theme: Any) -> None:
    """All text of the runs, unfolded, can be read on a light ground as on a dark one."""
    lab.set_theme(theme)
    try:
        page = reader(trusted=True)
        light = page.page.locator("body").get_attribute("data-jp-theme-light")
        assert light == ("true" if theme == "light" else "false")
        page.page.evaluate(ALONE)
        found = Axe().run(page.page, context=".jp-RenderedHTML", options=AXE)
        assert found.violations_count == 0, found.generate_report()
        assert max(len(rule["nodes"]) for rule in found.response["passes"]) > 100
        unsure = [check["message"] for r in found.response["incomplete"] for n in r["nodes"] for check in n["any"]]
        assert set(unsure) <= {"Element content contains only non-text characters"}  # marks
    finally:
        lab.set_theme("light")


def converted(book: Path, folder: Path, to: str) -> str:
    """What nbconvert makes of the notebook."""
    command = [sys.executable, "-m", "nbconvert", f"--to={to}", f"--output-dir={folder}", "--output=made", str(book)]
    subprocess.run(command, capture_output=True, check=True, timeout=100)
    return next(folder.glob("made.*")).read_text(encoding="utf-8")


def asked_for(context: BrowserContext, address: str) -> list[str]:
    """The requests of a page that can reach nothing."""
    page = context.new_page()
    asked: list[str] = []
    page.route("**/*", lambda route: route.continue_() if route.request.url == address else route.abort())
    page.on("request", lambda request: asked.append(request.url) if request.url != address else None)
    page.goto(address)
    page.close()
    return sorted(url for url in asked if not url.startswith("data:"))


def test_nbconvert_to_html(context: BrowserContext, book: Path, tmp_path: Path) -> None:
    """Offline the page is complete; it asks for nothing and holds no script that nbconvert itself does not bring."""
    made = converted(book, tmp_path, "html")
    empty: Any = nbformat.read(book, as_version=4)
    for cell in empty.cells:
        cell.outputs = []
    nbformat.write(empty, tmp_path / "empty.ipynb")
    (tmp_path / "bare").mkdir()
    bare = converted(tmp_path / "empty.ipynb", tmp_path / "bare", "html")
    assert made.count("<script") == bare.count("<script")
    address, plain = (tmp_path / "made.html").as_uri(), (tmp_path / "bare" / "made.html").as_uri()
    assert asked_for(context, address) == asked_for(context, plain)
    page = context.new_page()
    page.route("http*://**", lambda route: route.abort())
    page.goto(address)
    whole = page.locator("body").text_content() or ""
    assert in_order(whole, [part for parts in RUNS.values() for part in parts]) == []
    shown = page.locator(".jp-RenderedHTML:has(> div > details), .output_html:has(> div > details)")
    expect(shown).to_have_count(3)
    folds(shown.first.locator("details").first)
    assert page.evaluate(BROKEN) == []
    page.close()


def test_nbconvert_to_markdown(book: Path, tmp_path: Path) -> None:
    """The runs stand in it as HTML, which no blank line breaks off: nothing of theirs is taken for Markdown."""
    made = converted(book, tmp_path, "markdown")
    blocks = MarkdownIt("commonmark", {"html": True}).parse(made)
    runs = [block.content for block in blocks if block.type == "html_block" and "max-width:960px" in block.content]
    assert [run.count("<details") == run.count("</details>") > 0 for run in runs] == [True] * 3
    assert not {"image", "heading_open"} & {t.type for b in blocks for t in (b, *(b.children or []))}
    for number in RUNS:
        text = str(next(o["data"]["text/markdown"] for o in outputs(book, number) if "data" in o))
        kinds = {t.type for b in MarkdownIt("commonmark").parse(text) for t in (b, *(b.children or []))}
        assert not {"image", "heading_open", "html_block", "html_inline"} & kinds


def test_what_github_leaves_of_it(context: BrowserContext, book: Path) -> None:
    """Without styles, classes and other elements the text is there in order, and folds."""
    page: Page = context.new_page()
    with Watch(context, "none") as watch:
        for number, parts in RUNS.items():
            left = bleach.clean(html(book, number), set(TAGS.split()), ATTRIBUTES, strip=True)
            assert "style=" not in left
            assert "class=" not in left
            page.set_content(left)
            assert in_order(page.locator("body").text_content() or "", parts) == []
            folds(page.locator("details").first)
            top = page.locator("body").inner_text()
            assert in_order(top, [part for part in parts[:2] if part]) == []
    assert watch.seen == []
    page.close()


def test_in_a_terminal(book: Path) -> None:
    """As text: the answer and a line for each iteration, in 100 columns, with nothing for a terminal to obey."""
    texts = {n: str(next(o["data"]["text/plain"] for o in outputs(book, n) if "data" in o)) for n in RUNS}
    for text in texts.values():
        assert max(map(len, text.splitlines())) <= 100
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    first = [
        "summary:",
        "longest",
        "table:",
        "bug",
        "7.375",
        "score: 0.75",
        "1 ✓",
        "3 ✗",
        "KeyError",
        "3 sub-calls",
        "5 ✓",
    ]
    assert in_order(texts[3], [*first, "Answered · 5 iterations · 3 sub-calls"]) == []
    assert in_order(texts[5], ["Stopped at the limit of 1 iteration", "1 ✓ found = 7", "2 ✓ print(found + 1)"]) == []
    assert in_order(texts[7], ["Failed", "the service is overloaded", "1 ✓ hours = tickets.hours", "2 …"]) == []


@pytest.mark.parametrize("letter", ["x", "<", "é"])
def test_a_run_of_ten_thousand_sub_calls_is_a_small_file(letter: str) -> None:
    """What is saved of it stays below 300 KB, however much was asked and replied."""
    long = letter * 5000
    run = Trajectory.fold(together(10_000, prompt=long, answer=long, outputs=(("stdout", long * 10),), reply=long))
    data = Result(run)._repr_mimebundle_()
    assert "10,000 sub-calls in a batch" in data["text/html"]
    assert "10,000 sub-calls" in data["text/plain"]
    cell: Any = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data)])
    assert len(nbformat.writes(nbformat.v4.new_notebook(cells=[cell])).encode()) < 300_000
