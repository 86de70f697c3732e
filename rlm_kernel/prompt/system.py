"""The system prompt: everything that holds for a whole run."""

from __future__ import annotations

from rlm_kernel.events import Variable
from rlm_kernel.figures import A_RUN, A_TURN
from rlm_kernel.prompt.tools import tools_section
from rlm_kernel.signature import Signature
from rlm_kernel.task import Task

__all__ = ["ANSWER", "VARIABLE", "facts", "submit_call", "system_prompt", "variable"]

ANSWER = ("submit", "one_field", "fields", "instructions")
"""The facts that tell how the answer is handed in."""
VARIABLE = "variable "
"""Before the name of a variable, where it is told what a model knows."""

_SYSTEM = """\
You answer a question about data that you cannot see. The data sits in the variables of a persistent Python REPL; you \
write code that looks at it, searches, filters and computes, and you are shown what the code prints, and nothing else. \
You may look at as much of the data as you like, but you see only what your code prints, and at most \
{max_output_chars} characters a turn: print what you need, never everything.{figures}

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
than a loop. Where one call failed, the list holds a `SubcallError` object at its place.{batch_api}
{children}
- `SHOW_VARS()`: the variables that exist, with types and sizes.
- `{submit}`: hands in the answer and ends the run. Values are checked against the declared types; if one does not fit \
you are told, and nothing is lost: mend it and submit again. `FINAL(value)` and `FINAL_VAR("name")` do the same for \
{one_field}.
{network}{tools}
The answer has these fields:
{fields}
{instructions}
How to work well:
1. Look first: type, size, structure, a few samples. Never guess a column or a format.
2. Compute with code what code can compute: counting, joining, sorting, arithmetic. Do not count by eye.
3. Give sub-models small, self-contained slices, many at once; put results into variables.
4. Check before you submit: print the values that you are about to hand in, and see that they are plausible.
5. Submit from the REPL by calling SUBMIT. Text outside of the blocks is read by the user, never taken as the answer.
You have {max_iterations} turns; each message tells what is left of them, of sub-calls and of any other limit.

{variables}"""

DESCRIPTION_CHARS = 1_000
"""Of what a variable is, in the words of whoever handed it over."""
_NETWORK = """\
- The network, but only HTTP and HTTPS to {net}, through the proxy that HTTP_PROXY and HTTPS_PROXY name; urllib, \
requests and httpx find it by themselves.
"""
_FIGURES = """ \
Figures that it displays (`plt.show()`) are shown to you as well, as PNG or JPEG, at most {a_turn} a turn and {a_run} \
in all."""
_BATCH_API = """ \
With `batch_api=True` it costs half and takes minutes to hours: for thousands of prompts."""
_CHILDREN = """\
- `rlm_query(prompt, *, model=None, outputs="answer: str", **variables)`: has a sub-problem solved by a run like this \
one: a model that writes code in a REPL of its own, which holds the variables that you pass by name and nothing else. \
Returns the value of the one output field, or a dict of several (`outputs="total: float, ids: list[int]"`). It takes \
many model calls, so use it where a part is too large or too open for one prompt; else `llm_query` is enough.
- `rlm_batch(prompts, *, model=None, outputs="answer: str", **variables)`: many such runs at once, answered in \
order. A prompt is a text, or a dict with "prompt" and variables of that run alone: \
`rlm_batch([{{"prompt": "Find the outliers in `part`.", "part": p}} for p in parts], outputs="ids: list[int]")`."""
_NO_CHILDREN = """\
- `rlm_query` and `rlm_batch` are plain sub-calls here: no run below this one is possible."""


def system_prompt(task: Task) -> str:
    """Everything that holds for the whole run."""
    return _SYSTEM.format(**facts(task))


def facts(task: Task) -> dict[str, str]:
    """What the system prompt says of a task, by what it is about."""
    signature, options = task.signature, task.options
    fields = signature.outputs
    return {
        "max_output_chars": f"{options.max_output_chars:,}",
        "batch_api": _BATCH_API if options.batch_api else "",
        "children": _CHILDREN.format() if task.has_children else _NO_CHILDREN,
        "submit": submit_call(signature),
        "one_field": f"the one field `{fields[0].name}`" if len(fields) == 1 else "a dict with one key per field",
        "figures": _FIGURES.format(a_turn=A_TURN, a_run=A_RUN) if options.see else "",
        "tools": tools_section(options),
        "network": _NETWORK.format(net=options.sandbox_net) if options.sandbox_net else "",
        "fields": "\n".join(
            f"- `{f.name}`: {f.annotation}" + (f" ({f.description})" if f.description else "") for f in fields
        ),
        "instructions": f"\n{signature.instructions}\n" if signature.instructions else "",
        "max_iterations": str(options.max_iterations),
        "variables": _variables(task),
    }


def submit_call(signature: Signature) -> str:
    """How the answer is handed in."""
    return f"SUBMIT({', '.join(f'{f.name}=…' for f in signature.outputs)})"


def _variables(task: Task) -> str:
    lines = ["You were called by another run, for a part of its problem.\n"] if task.depth else []
    if not task.variables:
        earlier = " SHOW_VARS() tells what the REPL holds from earlier questions." if not task.depth else ""
        return "\n".join([*lines, f"No variable was handed over.{earlier}"])
    return "\n".join([*lines, "The variables of the REPL:", *(f"\n{variable(v)}" for v in task.variables)])


def variable(v: Variable) -> str:
    """A variable as the model is told of it."""
    lines = [f"`{v.name}`: {v.type}" + (f", {v.size}" if v.size else "")]
    if v.description:
        lines.append(f"    {' '.join(v.description[:DESCRIPTION_CHARS].split())}")
    return "\n".join([*lines, *(f"    {line}" for line in v.preview.splitlines())])
