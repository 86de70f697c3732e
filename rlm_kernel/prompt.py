"""What the model is told, and how the code is read back out of its reply. Pure text in, pure text out.

A conversation only ever grows at its end, so that a provider can cache its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt

from rlm_kernel.budget import Ledger
from rlm_kernel.config import Options
from rlm_kernel.events import Variable
from rlm_kernel.signature import Signature

__all__ = [
    "CellReport",
    "Excerpt",
    "final_message",
    "first_message",
    "observation",
    "read_code",
    "status_line",
    "system_prompt",
]

_FENCES = {"repl", "python", "py"}

_SYSTEM = """\
You answer a question about data that you cannot see. The data sits in the variables of a persistent Python REPL; you \
write code that looks at it, searches, filters and computes, and you are shown what the code prints, and nothing else. \
You may look at as much of the data as you like, but you see only what your code prints, and at most \
{max_output_chars:,} characters a turn: print what you need, never everything.

How a turn goes: you think in a few words and write one or more fenced blocks tagged `repl`:

```repl
print(len(data), data[:300])
```

Blocks run in order in the same REPL, which keeps its variables from turn to turn. It is an IPython session: the last \
expression of a block is shown, imports work, and there is nobody to answer input(). If a block raises, the blocks \
after it are skipped. If your code itself contains a line of three backticks, fence the block with four.

Besides Python, the REPL has:
- `llm_query(prompt, model=None) -> str`: asks a sub-model, which sees this prompt and nothing else. Put the slice of \
data that it needs into the prompt. Use it for what code cannot do: reading, judging, summarising, classifying text.
- `llm_batch(prompts, model=None) -> list[str]`: the same for many prompts at once, answered in order, much faster \
than a loop. Where one call failed, the list holds a `SubcallError` object at its place.
- `SHOW_VARS()`: the variables that exist, with types and sizes.
- `{submit}`: hands in the answer and ends the run. Values are checked against the declared types; if one does not fit \
you are told, and nothing is lost: mend it and submit again. `FINAL(value)` and `FINAL_VAR("name")` do the same for \
{one_field}.
{network}
The answer has these fields:
{fields}
{instructions}
How to work well:
1. Look first: type, size, structure, a few samples. Never guess a column or a format.
2. Compute with code what code can compute: counting, joining, sorting, arithmetic. Do not count by eye.
3. Give sub-models small, self-contained slices, many at once; put results into variables.
4. Check before you submit: print the values that you are about to hand in, and see that they are plausible.
5. Submit from the REPL by calling SUBMIT. Text outside of the blocks is read by the user, never taken as the answer.
You have {max_iterations} turns and {max_llm_calls} sub-calls{timeout}; each message tells what is left.

{variables}"""

_NETWORK = """\
- The network, but only HTTP and HTTPS to {net}, through the proxy that HTTP_PROXY and HTTPS_PROXY name; urllib, \
requests and httpx find it by themselves.
"""


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


def system_prompt(signature: Signature, variables: Sequence[Variable], options: Options) -> str:
    """Everything that holds for the whole run."""
    fields = signature.outputs
    return _SYSTEM.format(
        max_output_chars=options.max_output_chars,
        submit=_submit_call(signature),
        one_field=f"the one field `{fields[0].name}`" if len(fields) == 1 else "a dict with one key per field",
        network=_NETWORK.format(net=options.sandbox_net) if options.sandbox_net else "",
        fields="\n".join(
            f"- `{f.name}`: {f.annotation}" + (f" ({f.description})" if f.description else "") for f in fields
        ),
        instructions=f"\n{signature.instructions}\n" if signature.instructions else "",
        max_iterations=options.max_iterations,
        max_llm_calls=options.max_llm_calls,
        timeout="" if options.timeout is None else f", and {options.timeout:g} seconds in all",
        variables=_variables(variables),
    )


def _submit_call(signature: Signature) -> str:
    return f"SUBMIT({', '.join(f'{f.name}=…' for f in signature.outputs)})"


def _variables(variables: Sequence[Variable]) -> str:
    if not variables:
        return "No variable was handed over. SHOW_VARS() tells what the REPL holds from earlier questions."
    lines = ["The variables of the REPL:"]
    for v in variables:
        lines.append(f"\n`{v.name}`: {v.type}" + (f", {v.size}" if v.size else ""))
        if v.preview:
            lines += [f"    {line}" for line in v.preview.splitlines()]
    return "\n".join(lines)


def first_message(question: str, status: str) -> str:
    """The question, as it was written, and where the run stands."""
    return f"{question}\n\n[{status}]"


def status_line(ledger: Ledger) -> str:
    """Where the run stands, as the model is told."""
    options = ledger.options
    parts = [
        f"turn {ledger.iterations + 1} of {options.max_iterations}",
        f"sub-calls left: {ledger.subcalls_left} of {options.max_llm_calls}",
    ]
    line = "; ".join(parts)
    left = ledger.seconds_left
    return line if left is None else f"{line}]\n[time left: {left:.0f} s"


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
    submit = _submit_call(signature)
    return (
        f"The run ends here: {why}. Reply with one ```repl block that calls {submit} with the best answer that what "
        "you have found so far supports. The variables are still there; no sub-call is possible. If something could "
        "not be established, say so in the answer."
    )


def _brief(v: Variable) -> str:
    shown = " ".join(v.preview.split())
    shown = shown if len(shown) <= 80 else shown[:79] + "…"
    return f"{v.name} ({v.type}{', ' + v.size if v.size else ''})" + (f" = {shown}" if shown else "")


class Excerpt:
    """Head and tail of an output of any length, without holding the rest.

    Args:
        limit: how many characters `cut` can be asked for.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = self._tail = ""
        self.chars = 0

    def add(self, text: str) -> None:
        """Take the next piece."""
        self.chars += len(text)
        room = self._limit - len(self._head)
        if room > 0:
            self._head += text[:room]
        self._tail = (self._tail + text[-self._limit :])[-self._limit :]

    def cut(self, limit: int) -> str:
        """The output when it has at most `limit` characters, else its head and tail with a note of what was cut."""
        if self.chars <= limit:
            return self._head
        head, tail = limit * 2 // 3, limit // 3
        cut = self.chars - head - tail
        note = f"… [{cut:,} of {self.chars:,} characters cut; print less or look at a slice] …"
        return f"{self._head[:head]}\n{note}\n{self._tail[-tail:]}"


_markdown = MarkdownIt("commonmark")


def read_code(reply: str) -> tuple[str, ...]:
    """The code of every block tagged `repl` or `python`, in order, wherever Markdown allows a fence."""
    return tuple(
        token.content
        for token in _markdown.parse(reply)
        if token.type == "fence" and _tag(token.info) in _FENCES and token.content.strip()
    )


def _tag(info: str) -> str:
    """The first word after the backticks."""
    words = info.split(maxsplit=1)
    return words[0].lower() if words else ""
