"""The panel while the cell runs: what happens is seen as it happens, and nothing moves under a reader's eyes."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Opens
from tests.browser.page import Front
from tests.browser.panel import SETUP, Gates, Panel, steps
from tests.notebook.book import within

FORMS = {"text/html", "text/markdown", "text/plain"}
ASK = "%%rlm -> answer\nWhich is it?"
COLOURS = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
}"""
DISPLAY = """
import base64
from IPython.display import HTML, Image, display
display(HTML("<table><tr><th>city</th></tr><tr><td>Uppsala</td></tr></table>"))
display(Image(base64.b64decode("{png}")))
"""


def png() -> str:
    """A picture of one red point, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0\xff\0\0")
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_everything_is_seen_as_it_happens(notebook: Opens, gates: Gates, front: Front) -> None:
    """Reply, output, table, picture, variables, sub-calls and figures, each while the cell waits for the next."""
    first = f"print('one')\n{gates.code('two')}\nprint('two'){DISPLAY.format(png=png())}{gates.code('out')}\nx = 5"
    second = "asked = llm_batch(['wait a', 'short', 'fail b', 'wait c'])"
    replies = [
        f"I look at **the rows**.⟦reply⟧\n\n```repl\n{first}\n```\n",
        f"⟦ask⟧Now I ask.\n\n```repl\n{second}\n```\n",
        "It is clear.⟦answer⟧\n\n```repl\nSUBMIT(answer='**so**')\n```\n",
    ]
    page = notebook([SETUP + steps(gates, *replies), ASK], front=front)
    page.run(0)
    page.wait_idle()
    page.run(1)
    panel = Panel(page.cell(1))
    expect(panel.el.locator(".rlm-question")).to_have_text("Which is it?")
    expect(panel.badge).to_have_text("Running")
    step = panel.iteration(1)
    expect(step.locator(".rlm-draft")).to_have_text("I look at **the rows**.")
    expect(step.locator("summary").first).to_contain_text("the model writes")

    gates.open("reply")
    expect(step.locator(".rlm-prose strong")).to_have_text("the rows")
    expect(step.locator(".rlm-code")).to_contain_text("x = 5")
    expect(step.locator(".rlm-stdout")).to_have_text("one")
    gates.open("two")
    expect(step.locator(".rlm-stdout")).to_have_text("one\ntwo")
    expect(step.locator("table")).to_have_text("cityUppsala")
    expect(step.locator("img")).to_have_count(1)
    assert step.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)") == 1
    assert page.prompt(1) == "[*]:"
    gates.open("out")
    expect(step.get_by_text("1 variable changed")).to_be_visible()
    expect(step.locator("table").last).to_contain_text("xint")
    gates.open("ask")

    expect(panel.rows).to_have_count(4)
    expect(panel.el.locator(".rlm-sub > summary")).to_have_text("2 of 4 sub-calls done, 1 failed")
    assert [row.split("\n")[0] for row in panel.rows.all_inner_texts()] == ["…", "✓", "✗", "…"]
    gates.open("wait a")
    expect(panel.rows.first).to_contain_text("heard: wait a")
    panel.open_ones(2)
    gates.open("wait c")

    expect(panel.iteration(3).locator(".rlm-draft")).to_have_text("It is clear.")
    panel.open_ones(2, 3)  # the step before stays until the new one is written
    expect(panel.stat("iteration")).to_have_text("3 of 20")
    expect(panel.stat("sub-calls")).to_have_text("4 of 50")
    expect(panel.stat("tokens")).to_have_text("215")
    assert within(5, lambda: panel.el.locator("canvas").evaluate(COLOURS) > 4)  # it is painted with the next frame
    assert page.prompt(1) == "[*]:"
    gates.open("answer")
    page.wait_idle()
    expect(page.output(1)).to_contain_text("Answered")
    expect(page.output(1).locator("strong", has_text="so")).to_be_visible()
    expect(panel.el).to_have_count(0)
    page.save()
    (output,) = page.saved_outputs(1)
    assert output["data"].keys() == FORMS
    assert output["metadata"] == {}
    assert page.errors == []


def test_nothing_moves_under_a_readers_eyes(notebook: Opens, gates: Gates) -> None:
    """Who scrolls up reads on where they are, while text and steps come below, until they follow again."""
    prose = "\n\n".join(f"Paragraph {n}." for n in range(40))
    long = f"for n in range(99): print('line', n)\n{gates.code('more')}\nfor n in range(99): print('line', n)"
    replies = [
        f"{prose}\n\n```repl\n{long}\n```\n\nThen again.\n\n```repl\n{gates.code('next')}\nx = 5\n```\n",
        "I stop.⟦written⟧\n\n```repl\nprint('second')\n```\n",
        "⟦third⟧That is it.⟦end⟧",
        "```repl\nSUBMIT(answer='so')\n```",
    ]
    page = notebook([SETUP + steps(gates, *replies), ASK])
    page.run(0)
    page.wait_idle()
    page.run(1)
    panel = Panel(page.cell(1))
    out = panel.iteration(1).locator(".rlm-stdout")
    expect(out).to_contain_text("line 98")
    panel.iteration(1).locator(".rlm-prose").first.hover()
    page.page.mouse.wheel(0, -2000)
    expect(panel.jump).to_be_visible()
    out.evaluate("out => { out.scrollTop = 300 }")
    top = panel.scroll_top()
    gates.open("more")
    expect(panel.iteration(1).locator(".rlm-code")).to_have_count(2)
    gates.open("next")
    expect(panel.iteration(2).locator("summary")).to_contain_text("the model writes")
    gates.open("written")
    expect(panel.stat("iteration")).to_have_text("3 of 20")
    panel.open_ones(1)
    assert panel.scroll_top() == top
    assert out.evaluate("out => out.scrollTop") == 300
    panel.jump.click()
    expect(panel.jump).to_be_hidden()
    panel.open_ones(1, 3)
    gates.open("third")
    expect(panel.iteration(3).locator(".rlm-draft")).to_have_text("That is it.")
    expect(panel.iteration(3).locator(".rlm-draft")).to_be_in_viewport()
    gates.open("end")
    page.wait_idle()
    assert page.errors == []


def test_a_run_that_fails_or_is_stopped_settles(notebook: Opens, gates: Gates) -> None:
    """What was found until then stays, as plain HTML, Markdown and text; nothing of the widget is saved."""
    failing = steps(gates, "One step.\n\n```repl\nx = 5\n```\n", "!the service is down")
    stopped = steps(gates, "One step.\n\n```repl\nx = 5\n```\n", "Another.⟦never⟧")
    page = notebook([SETUP + failing, ASK, stopped, ASK])
    page.run(0)
    page.run(1)
    page.wait_idle()
    page.run(2)
    page.wait_idle()
    page.run(3)
    panel = Panel(page.cell(3))
    expect(panel.iteration(2).locator(".rlm-draft")).to_have_text("Another.")
    panel.stop.click()
    page.wait_idle()
    expect(panel.el).to_have_count(0)
    page.save()
    for cell, words in (1, "Failed"), (3, "Interrupted"):
        expect(page.output(cell).first).to_contain_text(words)
        expect(page.output(cell).first).to_contain_text("One step.")
        settled, error = page.saved_outputs(cell)
        assert settled["data"].keys() == FORMS
        assert all(words in text for text in settled["data"].values())
        assert error["output_type"] == "error"
    expect(page.output(1).last).to_contain_text("the service is down")
    assert page.errors == []
