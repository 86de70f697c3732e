"""Tab after `%%rlm` and `%rlm`: options, notebook variables and functions, types and kernelspecs."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Sequence
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.interactiveshell import InteractiveShell

from rlm_kernel.tools import DataTool, Tool

__all__ = ["Completions"]

_TYPES = (
    "str",
    "int",
    "float",
    "bool",
    "list[str]",
    "dict[str, float]",
    "DataFrame",
    "Series",
    "ndarray",
    "datetime",
    "Literal",
)
_SHELLS = ("In", "Out", "exit", "quit", "open", "get_ipython")
"""Names that are in every notebook."""


class Completions:
    """What to offer.

    Args:
        parser: of the cell magic; its options are offered.
        words: of the line magic.
        file_options: of its word `files`.
    """

    def __init__(self, parser: argparse.ArgumentParser, words: Sequence[str], file_options: Sequence[str]) -> None:
        self._options = sorted(s for a in parser._actions for s in a.option_strings if s.startswith("--"))
        self._words, self._file_options = words, file_options

    def install(self, shell: InteractiveShell) -> None:
        """Have IPython ask for them."""

        @context_matcher(identifier="rlm_kernel")  # type: ignore[untyped-decorator, unused-ignore]  # IPython has no types
        def rlm_matcher(context: CompletionContext) -> SimpleMatcherResult:
            found = self.offer(context.text_until_cursor, context.cursor_line, context.token, shell.user_ns)
            return {"completions": [SimpleCompletion(text=t, type="rlm") for t in found], "suppress": bool(found)}

        matchers = getattr(shell.Completer, "custom_matchers", None)
        if matchers is not None:
            matchers.append(rlm_matcher)

    @staticmethod
    def uninstall(shell: InteractiveShell) -> None:
        """Have IPython no longer ask."""
        matchers = getattr(getattr(shell, "Completer", None), "custom_matchers", None)
        if matchers is not None:
            matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != "rlm_kernel"]

    def offer(self, before: str, line: int, token: str, names: dict[str, Any]) -> list[str]:
        """The completions of `token`, which ends the text `before` the cursor on this line of the cell."""
        if line != 0:
            return []
        word = re.search(r"[\w.-]*$", before)
        start = word.group() if word else ""
        cut = len(start) - len(token) if start.endswith(token) else 0
        if re.match(r"\s*%rlm\s+(save|load)\s", before):
            return []  # IPython offers files
        if re.match(r"\s*%rlm\s", before):
            offered: list[str] = [*(self._file_options if re.match(r"\s*%rlm\s+files\s", before) else self._words)]
        elif not re.match(r"\s*%%rlm\s", before):
            return []
        elif start.startswith("-"):
            offered = self._options
        elif re.search(r"--sandbox[\s=]+\S*$", before):
            from jupyter_client.kernelspec import KernelSpecManager

            offered = sorted(KernelSpecManager().find_kernel_specs())
        elif re.search(r"--tools[\s=]+\S*$", before):
            offered = sorted(n for n, v in names.items() if _is_tool(n, v))
        elif re.search(r":\s*\w*$", before):
            offered = [*_TYPES]
        else:
            offered = sorted(n for n in names if not n.startswith("_") and n not in _SHELLS)
        return [o[max(cut, 0) :] for o in offered if o.startswith(start)]


def _is_tool(name: str, value: object) -> bool:
    """Whether it is offered as a tool; an object that can be called can be one too, but seldom is meant to."""
    known = isinstance(value, Tool | DataTool) or inspect.isroutine(value)
    return known and not name.startswith("_") and name not in _SHELLS
