"""Finds text in a run."""

from __future__ import annotations

from rlm_kernel.trajectory import Iteration, Trajectory

__all__ = ["find"]

FOUND = 2000
"""As many iterations are named in answer to a search."""


def find(trajectory: Trajectory, text: str) -> list[int]:
    """The numbers of the iterations in which the text occurs, upper or lower case."""
    wanted = text.casefold()
    found = []
    for n, i in enumerate(trajectory.iterations, 1):
        if any(wanted in part.casefold() for part in _texts(i)):
            found.append(n)
        if len(found) >= FOUND:
            break
    return found


def _texts(i: Iteration) -> list[str]:
    made = [i.reply, i.thinking, *i.notes]
    for c in i.cells:
        made += [c.code, *(o.text for o in c.outputs), *(v.name for v in c.changed)]
        made += [x for s in c.subcalls for x in (s.prompt, s.reply, s.error)]
        made += [x for t in c.tool_calls for x in (t.written, t.result, t.error)]
    return made
