"""The messages of a conversation: the question, what came of a turn's code, the call for the last answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlm_kernel.budget import Ledger
from rlm_kernel.events import Variable
from rlm_kernel.prompt.excerpt import Excerpt
from rlm_kernel.prompt.system import submit_call
from rlm_kernel.signature import Signature

__all__ = ["ACCEPTED", "CellReport", "final_message", "first_message", "no_code", "observation", "status_line"]

ACCEPTED = "The answer was accepted."
"""The status of a run that has answered."""
_HISTORY = "`{}` lists the earlier questions of this session: dicts with run, question, signature, answer, stop_reason"


@dataclass(frozen=True, slots=True)
class CellReport:
    """What became of one block, for the model."""

    number: int
    status: str
    output: Excerpt
    changed: tuple[Variable, ...] = ()
    removed: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    note: str = ""
    displayed: tuple[Mapping[str, Any], ...] = ()
    """MIME bundles, in order, where the model may be shown figures."""


def first_message(question: str, status: str) -> str:
    """The question, as it was written, and where the run stands."""
    return f"{question}\n\n[{status}]"


def status_line(ledger: Ledger, history: str = "") -> str:
    """Where the run stands, as the model is told: its turn, and what is left, which may differ from run to run.

    Args:
        ledger: of the run.
        history: the variable with the earlier questions, where it is to be told of.
    """
    limits = ledger.limits
    left = [f"{ledger.subcalls_left:,} of {ledger.subcalls_allowed:,} sub-calls"]
    if (usd := ledger.usd_left()) is not None:
        left.append(f"${usd:.2f} of ${limits.usd:.2f}")
    if (tokens := ledger.tokens_left()) is not None:
        left.append(f"{tokens:,} of {limits.tokens:,} tokens")
    if (seconds := ledger.seconds_left) is not None:
        left.append(f"{seconds:.0f} s")
    told = f"]\n[history: {_HISTORY.format(history)}" if history else ""
    turn, turns = ledger.iterations + 1, ledger.options.max_iterations
    where = f"turn {turn} of {turns}" if turn <= turns else "no turn is left"
    return f"{where}]\n[left: {'; '.join(left)}{told}"


def observation(reports: Sequence[CellReport], status: str, limit: int) -> str:
    """What the blocks of a reply did, within `limit` characters of output, and where the run stands."""
    share = max(limit // max(1, len(reports)), 100)
    parts = []
    for report in reports:
        head = f"Block {report.number}: {report.status}" if len(reports) > 1 else f"Result: {report.status}"
        lines = [head, report.output.cut(share).rstrip("\n") or "(no output)"]
        if report.note:
            lines.append(report.note)
        if report.changed:
            lines.append("New or changed: " + "; ".join(_brief(v) for v in report.changed[:20]))
        if len(report.changed) > 20:
            lines.append(f"… and {len(report.changed) - 20} more; SHOW_VARS() lists all")
        if report.removed:
            lines.append("Removed: " + ", ".join(report.removed))
        if report.restored:
            lines.append(f"Your code overwrote {', '.join(report.restored)}; restored. Use another name.")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + f"\n\n[{status}]"


def no_code(status: str) -> str:
    """For a reply without a block."""
    return (
        "Your reply has no ```repl block, so nothing was run. Write the code in a fenced block tagged `repl`; to "
        f"answer, call SUBMIT in one.\n\n[{status}]"
    )


def final_message(why: str, signature: Signature) -> str:
    """Asks for the answer when a limit has been reached."""
    submit = submit_call(signature)
    return (
        f"The run ends here: {why}. Reply with one ```repl block that calls {submit} with the best answer that what "
        "you have found so far supports. The variables are still there; no sub-call is possible. If something could "
        "not be established, say so in the answer."
    )


def _brief(v: Variable) -> str:
    shown = " ".join(v.preview.split())
    shown = shown if len(shown) <= 80 else shown[:79] + "…"
    return f"{v.name} ({v.type}{', ' + v.size if v.size else ''})" + (f" = {shown}" if shown else "")
