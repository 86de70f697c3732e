"""Makes trajectories for the tests, by folding events as the loop does."""

from __future__ import annotations

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
    variable: ev.Variable | None = None,
    note: str = "",
    thinking: str = "",
    cost: float | None = 0.0125,
) -> list[ev.Event]:
    """The events of a run of equal iterations."""
    at = {"run": "main", "at": 1.0}
    made: list[ev.Event] = [
        ev.RunStarted(
            **at, question=question, signature=signature, model="big", sub_model="small", max_iterations=20,
            max_llm_calls=50,
        )
    ]  # fmt: skip
    done = 0
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


def everywhere(text: str) -> Trajectory:
    """A run that has `text` in every place where foreign text can stand."""
    code = text or "pass"
    made = run(
        question=text, values={"answer": text, "table": [{text: text}], "map": {text: text}, "items": [text, text]},
        detail=text, reply=f"{text}\n\n```repl\n{code}\n```\n{text}", code=code, subcalls=2, prompt=text, answer=text,
        outputs=(("stdout", text), ("stderr", text), ("error", text), ("result", text, {"text/html": text, text: text}),
                 ("display", "", {"text/html": f"<table><tr><td>{text}</td></tr></table>"})),
        variable=ev.Variable(text, text, text, text), note=text, thinking=text, status="error",
    )  # fmt: skip
    made.subcalls[1].error = text
    made.subcalls[0].run = run(question=text, reply=text, values={text: text})
    return made
