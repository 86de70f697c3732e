"""`%%rlm --dry-run`, `--direct` and `--see` in a notebook: what is shown, bound, offered, and never started."""

from __future__ import annotations

import re
from pathlib import Path

from tests.notebook.book import Book

DIRECT = "script(rlm_kernel.Completion('It is **b**.', 'm', rlm_kernel.Usage(9, 3)))"


def test_a_dry_run_is_shown_and_bound(book: Book) -> None:
    """In three forms; nothing was asked, and no sandbox is there."""
    book.ok("%rlm reset\nt = {'a': [1, 2]}\nscript('SUBMIT(1)')")
    ran = book.ok("%%rlm --dry-run t -> n: int -o plan\nHow many?")
    (bundle,) = ran.bundles
    assert {"text/html", "text/markdown", "text/plain"} == set(bundle)
    assert bundle["text/plain"].startswith("How many?\nDry run · nothing was started, nothing was asked\n")
    assert book.value("[type(plan).__name__, plan.direct.calls, len(model.requests)]") == ["Preflight", 1, 0]
    assert "running" not in book.ok("%rlm status").stream("stdout").replace("not running", "")
    assert book.ok("%%rlm --dry-run t -> n: int -o plan\nHow many?").bundles == [bundle]


def test_a_semicolon_keeps_it_from_being_shown(book: Book) -> None:
    """It is bound all the same."""
    book.ok("t = 'x'\nscript('SUBMIT(1)')")
    assert book.ok("%%rlm --dry-run t -o plan\nHow many?;").bundles == []
    assert book.value("plan.variables") == {"t": 1}


def test_a_dry_run_needs_no_key(book: Book) -> None:
    """The defaults are Anthropic's models, and no key is set."""
    book.ok("t = 'x'")
    assert "no key for" in book.run("%%rlm t\nWhat?").usage_error
    (bundle,) = book.ok("%%rlm --dry-run t\nWhat?").bundles
    assert re.search(r"\$0\.\d+ to \$\d\.\d+, typically about \$0\.\d+", bundle["text/plain"])


def test_mistakes_are_one_line(book: Book) -> None:
    """As in a run."""
    book.ok("t = object()\nscript('SUBMIT(1)')")
    assert "no variable is called 'tt' (did you mean 't'?)" in book.run("%%rlm --dry-run tt\nQ").usage_error
    assert "variable 't' (object) has no form as text" in book.run("%%rlm --direct t\nQ").usage_error
    assert "--dry-rum" in book.run("%%rlm --dry-rum t\nQ").usage_error


def test_they_are_offered_and_explained(book: Book) -> None:
    """Tab completes them, and the help has a line for each."""
    assert "%%rlm --dry-run" in book.complete("%%rlm --dry")
    assert "%%rlm --direct" in book.complete("%%rlm --di")
    assert "%%rlm --see" in book.complete("%%rlm --se")
    told = book.ok("%%rlm?").reply["payload"][0]["data"]["text/plain"]
    for words in ("start nothing and ask nothing", "for what fits into one call", "the figures that its code displays"):
        assert words in " ".join(re.sub(r"\x1b\[[\d;]*m", "", told).split())


def test_a_direct_call(book: Book) -> None:
    """The reply is the answer; no sandbox was started for it."""
    book.ok(f"%rlm reset\nt = 'a b b'\n{DIRECT}")
    (bundle,) = book.ok("%%rlm --direct t\nWhich is most frequent?").bundles
    assert bundle["text/plain"].startswith("It is **b**.\n\n1 ✓ It is b. · answer submitted\nAnswered · 1 iteration")
    assert book.value("[rlm_result.answer, 'a b b' in model.requests[0].messages[0].content]") == ["It is **b**.", True]
    assert "running" not in book.ok("%rlm status").stream("stdout").replace("not running", "")
    assert "not running" in book.ok("%rlm vars").stream("stdout")


def test_a_direct_call_is_stopped(book: Book, marker: Path) -> None:
    """By ■ while the model is asked; what there is is bound, and the next cell runs."""
    book.ok(
        f"import asyncio\nasync def never(request, on_delta=None):\n    open({str(marker)!r}, 'w').close()\n"
        "    await asyncio.sleep(100)\nscript()\nmodel.complete = never\nt = 'x'"
    )
    book.interrupt_when(marker)
    ran = book.run("%%rlm --direct t\nWhat?")
    assert "KeyboardInterrupt" in "\n".join(ran.errors[0]["traceback"])
    assert book.value("[rlm_result.stop_reason, len(rlm_result.iterations)]") == ["interrupted", 1]
    book.ok(f"{DIRECT}\n")
    book.ok("%%rlm --direct t\nWhat?")
    assert book.value("rlm_result.stop_reason") == "answered"


def test_a_plot_is_shown_to_the_model(book: Book) -> None:
    """With matplotlib as it is, in the sandbox that this machine gives."""
    book.ok("ys = [1, 4, 9]\nscript('import matplotlib.pyplot as plt\\nplt.plot(ys)\\nplt.show()', 'SUBMIT(\"up\")')")
    book.ok("%%rlm --see ys\nWhere does it go?")
    assert book.value("[len(m.images) for m in model.requests[1].messages]") == [0, 0, 1]
    assert book.value("model.requests[1].messages[2].images[0].data[:4].hex()") == "89504e47"
    assert book.value("rlm_result.answer") == "up"
