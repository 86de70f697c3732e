"""What the variables and tools of the REPL may be called."""

from __future__ import annotations

import builtins
import keyword

from rlm_kernel.sandbox.guest.repl import RESERVED

__all__ = ["is_name", "name_problem"]


def is_name(name: str) -> bool:
    """Whether Python could have a variable of this name."""
    return name.isidentifier() and not keyword.iskeyword(name)


def name_problem(name: str, what: str = "variable") -> str:
    """Why nothing in the REPL can be called so; empty when it can.

    Args:
        name: to be given to it.
        what: it is, in a word.
    """
    if not is_name(name):
        return f"{name!r} is not a name"
    if name in RESERVED or name.startswith("__rlm"):
        return f"'{name}' is a name of the REPL; rename the {what}"
    if hasattr(builtins, name):
        return f"a {what} called '{name}' would hide Python's own {name} in the REPL; rename it"
    return ""
