"""Makes trajectories for the tests, by folding events as the loop does."""

from __future__ import annotations

import random
from typing import Any

from rlm_kernel import events as ev
from rlm_kernel.trajectory import Trajectory
from rlm_kernel.usage import Usage

CODE = "n = len(tickets)\nprint(n)"


def events(
    question: str = "How many tickets?",
    signature: str = "tickets -> answer: str",
    values: dict[str, Any] | None = None,
    stop_reason: str = "answered",
    detail: str = "",
    iterations: int = 1,
    reply: str = f"I count them.\n\n```repl\n{CODE}\n```\n",
    code: str = CODE,
    outputs: tuple[tuple[Any, ...], ...] = (("stdout", "3\n"),),
    status: str = "ok",
    subcalls: int = 0,
    prompt: str = "Read this",
    answer: str = "Done",
    error: str = "",
    batch: int | None = None,
    tools: int = 0,
    tool: str = "read_file",
    arguments: str = "'a.txt'",
    result: str = "its text",
    failed: str = "",
    variable: ev.Variable | None = None,
    note: str = "",
    thinking: str = "",
    cost: float | None = 0.0125,
    name: str = "main",
    parent: str | None = None,
) -> list[ev.Event]:
    """The events of a run of equal iterations."""
    at: dict[str, Any] = {"run": name, "at": 1.0}
    made: list[ev.Event] = [
        ev.RunStarted(
            **at, question=question, signature=signature, model="big", sub_model="small", max_iterations=20,
            max_llm_calls=50, parent=parent,
        )
    ]  # fmt: skip
    done = called = 0
    for n in range(1, iterations + 1):
        made += [
            ev.IterationStarted(**at, iteration=n, prompt=f"turn {n}"),
            ev.ModelFinished(
                **at, iteration=n, reply=reply, thinking=thinking, model="big", usage=Usage(10, 5, 2, 1), cost=0.001,
                seconds=2.5, cells=(code,) if code else (),
            ),
        ]  # fmt: skip
        if code:
            made.append(ev.CellStarted(**at, iteration=n, cell=n, code=code))
            for _ in range(subcalls):
                done += 1
                made += [
                    ev.SubcallStarted(
                        **at, iteration=n, cell=n, subcall=done, prompt=prompt, model="small", batch=batch
                    ),
                    ev.SubcallFinished(
                        **at, subcall=done, reply=answer, error=error, model="small", usage=Usage(3, 1), cost=0.0,
                        seconds=1,
                    ),
                ]  # fmt: skip
            for _ in range(tools):
                called += 1
                made += [
                    ev.ToolCallStarted(**at, iteration=n, cell=n, call=called, tool=tool, arguments=arguments),
                    ev.ToolCallFinished(**at, call=called, result=result, error=failed, seconds=0.25),
                ]
            made += [
                ev.CellOutput(**at, iteration=n, cell=n, kind=o[0], text=o[1], data=o[2] if len(o) > 2 else {})
                for o in outputs
            ]
            changed = (variable,) if variable else ()
            made.append(ev.CellFinished(**at, iteration=n, cell=n, status=status, seconds=0.5, changed=changed))  # type: ignore[arg-type]
        if note:
            made.append(ev.Note(**at, iteration=n, text=note))
        made.append(ev.IterationFinished(**at, iteration=n, observation="seen"))
    if values is not None:
        made.append(ev.Final(**at, iteration=iterations, values=values))
    made.append(
        ev.RunFinished(
            **at,
            stop_reason=stop_reason,
            detail=detail,
            usage=Usage(1000, 200, 300, 50),
            cost=cost,
            seconds=9.75,  # type: ignore[arg-type]
        )
    )
    return made


def run(**options: Any) -> Trajectory:
    """The trajectory of `events(**options)`."""
    options.setdefault("values", {"answer": "Three."})
    return Trajectory.fold(events(**options))


def together(number: int, **options: Any) -> list[ev.Event]:
    """The events of a run whose sub-calls all start before the first of them ends, as those of a batch do."""
    made = events(subcalls=number, batch=1, **options)
    started = [e for e in made if isinstance(e, ev.SubcallStarted)]
    rest = [e for e in made if not isinstance(e, ev.SubcallStarted)]
    at = next(i for i, e in enumerate(rest) if isinstance(e, ev.CellStarted)) + 1
    return [*rest[:at], *started, *rest[at:]]


def family(name: str, *numbers: int, parent: str | None = None) -> dict[str, list[ev.Event]]:
    """The events of a run and of those below it, by name: it has so many children, each of them the next number."""
    number, *below = numbers or (0,)
    made = {name: together(number, name=name, parent=parent, question=f"I am {name}", values={"answer": name})}
    for n in range(1, number + 1):
        made |= family(f"{name}.{n}", *below, parent=name)
    return made


def interleaved(
    runs: dict[str, list[ev.Event]], first: str, chance: random.Random, *, deepest: bool = False
) -> list[ev.Event]:
    """All the events in some order that can happen: a run starts once the sub-call that asks for it has started.

    With `deepest` each run waits for the one that it started.
    """
    waiting = {name: list(own) for name, own in runs.items()}
    ready, told = [first], []
    while ready:
        name = ready[-1] if deepest else chance.choice(ready)
        told.append(event := waiting[name].pop(0))
        if isinstance(event, ev.SubcallStarted) and f"{name}.{event.subcall}" in runs:
            ready.append(f"{name}.{event.subcall}")
        if not waiting[name]:
            ready.remove(name)
    return told


def everywhere(text: str) -> Trajectory:
    """A run that has `text` in every place where foreign text can stand."""
    code = text or "pass"
    made = run(
        question=text, values={"answer": text, "table": [{text: text}], "map": {text: text}, "items": [text, text]},
        detail=text, reply=f"{text}\n\n```repl\n{code}\n```\n{text}", code=code, subcalls=2, prompt=text, answer=text,
        outputs=(("stdout", text), ("stderr", text), ("error", text), ("result", text, {"text/html": text, text: text}),
                 ("display", "", {"text/html": f"<table><tr><td>{text}</td></tr></table>"})),
        variable=ev.Variable(text, text, text, text), note=text, thinking=text, status="error",
        tools=2, tool=text, arguments=text, result=text,
    )  # fmt: skip
    made.subcalls[1].error = made.tool_calls[1].error = text
    made.tools = (text,)
    made.subcalls[0].run = run(question=text, reply=text, values={text: text})
    return made
