"""The names that model-written code finds in its REPL, and what is told of the namespace after each cell.

Knows nothing of kernels: it works on a namespace (a dict) and a channel, so it is tested as plain Python and serves
in every kind of sandbox.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterable
from typing import Any, NoReturn

from . import saving, wire
from .channel import Channel, HostError
from .children import Children
from .describe import describe
from .tools import CARRIER, read

RESERVED = (
    "llm_query",
    "llm_batch",
    "llm_query_batched",
    "rlm_query",
    "rlm_batch",
    "SHOW_VARS",
    "SUBMIT",
    "FINAL",
    "FINAL_VAR",
    "SubcallError",
)
_HIDDEN = {"In", "Out", "exit", "quit", "open", "get_ipython"}
_PREVIEW = 160
CHILDREN = ".children"
"""The folder of child runs, in the scratch folder."""


class SubcallError(RuntimeError):
    """A sub-model call failed; the text says why. In the list of a batch it stands where the reply would be."""

    __module__ = "builtins"  # the model knows it by its bare name


class Submitted(BaseException):
    """Ends the cell once the answer was accepted. Not an Exception, so `except Exception` lets it pass."""


class _Table(str):
    """Text that shows as itself, printed or as the last line of a cell."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Repl:
    """The functions of the REPL over one namespace.

    Args:
        namespace: where model code runs; the reserved names are put there and kept there.
        channel: the way to the host.
        scratch: the folder of the code's files, where it has one.
    """

    def __init__(self, namespace: dict[str, Any], channel: Channel, scratch: str | None = None) -> None:
        self._namespace = namespace
        self._channel = channel
        self._first = dict(namespace)
        self._seen: dict[str, tuple[int, tuple[str, str, str]]] = {}
        children = Children(namespace, self._ask, self._plain, SubcallError, scratch and f"{scratch}/{CHILDREN}")
        self._functions: dict[str, Any] = {
            "llm_query": self.llm_query,
            "llm_batch": self.llm_batch,
            "llm_query_batched": self.llm_batch,
            "rlm_query": children.rlm_query,
            "rlm_batch": children.rlm_batch,
            "SHOW_VARS": self.show_vars,
            "SUBMIT": self.submit,
            "FINAL": self.final,
            "FINAL_VAR": self.final_var,
            "SubcallError": SubcallError,
        }
        self._tools: dict[str, Any] = {}
        self._hidden: dict[str, Any] = {}
        """Variables in whose place tools stand now."""
        namespace.update(self._functions)

    # -- asking sub-models ---------------------------------------------------------------------------------
    def llm_query(self, prompt: str, model: str | None = None) -> str:
        """Ask a sub-model and wait for its reply. It sees the prompt and nothing else.

        Raises:
            SubcallError: the call failed or no call is left.
        """
        if not isinstance(prompt, str):
            raise TypeError(f"llm_query takes the prompt as str, not {type(prompt).__name__}")
        reply = self._ask("llm_query", prompts=[prompt], model=model)[0]
        if "error" in reply:
            raise SubcallError(reply["error"])
        return str(reply["text"])

    def llm_batch(
        self, prompts: Iterable[str], model: str | None = None, *, batch_api: bool = False
    ) -> list[str | SubcallError]:
        """Ask a sub-model many prompts at once; the replies come in the order of the prompts.

        With `batch_api` through the provider's batch service: for half the price, within hours.

        A failed call leaves a `SubcallError` object at its place and the others are kept.

        Raises:
            SubcallError: every call failed, or the batch is larger than the calls that are left.
        """
        wanted = [prompts] if isinstance(prompts, str) else list(prompts)
        if bad := [p for p in wanted if not isinstance(p, str)]:
            raise TypeError(f"llm_batch takes prompts as str, not {type(bad[0]).__name__}")
        if not wanted:
            return []
        more = {"batch_api": True} if batch_api else {}
        result = self._plain(wanted, model, **more)
        failed = [i for i, r in enumerate(result) if isinstance(r, SubcallError)]
        if len(failed) == len(result):
            raise SubcallError(f"all {len(result)} calls failed, the first with: {result[0]}")
        if failed:
            where = ", ".join(map(str, failed[:10])) + (", …" if len(failed) > 10 else "")
            print(
                f"llm_batch: {len(failed)} of {len(result)} calls failed (a SubcallError stands at index {where})",
                file=sys.stderr,
            )
        return result

    def _plain(self, prompts: list[str], model: str | None, **more: Any) -> list[str | SubcallError]:
        replies = self._ask("llm_batch", prompts=prompts, model=model, **more)
        return [SubcallError(r["error"]) if "error" in r else str(r["text"]) for r in replies]

    def _ask(self, method: str, **params: Any) -> Any:
        try:
            return self._channel.call(method, **params)
        except HostError as error:
            raise SubcallError(str(error)) from None

    # -- answering ------------------------------------------------------------------------------------------
    def submit(self, *values: Any, **fields: Any) -> NoReturn:
        """Hand in the answer, one keyword per output field, and end the run.

        Raises:
            TypeError: a field is missing, unknown or of the wrong type; nothing was submitted, so mend it.
        """
        encoded: dict[str, Any] = {}
        for name, value in fields.items():
            try:
                encoded[name] = wire.encode(value)
            except wire.NotSendableError as error:
                raise TypeError(f"SUBMIT: field '{name}': {error}") from None
        try:
            positional = [wire.encode(v) for v in values]
        except wire.NotSendableError as error:
            raise TypeError(f"SUBMIT: {error}") from None
        try:
            self._channel.call("submit", fields=encoded, values=positional)
        except HostError as error:
            raise TypeError(f"SUBMIT: {error}") from None
        raise Submitted("the answer was accepted")

    def final(self, value: Any) -> NoReturn:
        """Hand in the answer of a question with a single output field (or a dict with one key per field)."""
        self.submit(value)

    def final_var(self, name: str) -> NoReturn:
        """Hand in the variable called `name`.

        Raises:
            NameError: there is no such variable.
        """
        if not isinstance(name, str):
            raise TypeError("FINAL_VAR takes the variable's name as text; FINAL(value) takes a value")
        if name not in self._namespace:
            raise NameError(f"FINAL_VAR: no variable is called {name!r}")
        self.submit(self._namespace[name])

    # -- looking around -------------------------------------------------------------------------------------
    def show_vars(self) -> str:
        """The variables of the REPL: name, type, size, and the start of the value."""
        rows = [(name, *describe(self._namespace[name], 60)) for name in self._names()]
        if not rows:
            return _Table("(no variables)")
        widths = [max(len(r[i]) for r in rows) for i in range(3)]
        return _Table(
            "\n".join(
                "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3].replace("\n", " ")])
                for row in rows
            )
        )

    def _names(self) -> list[str]:
        return [
            name
            for name, value in list(self._namespace.items())
            if isinstance(name, str)
            and not name.startswith("_")
            and name not in _HIDDEN
            and name not in self._functions
            and not (name in self._first and self._first[name] is value)
            and not _imported(value)
        ]

    def changes(self) -> dict[str, Any]:
        """What the cell did to the namespace, since the last time this was asked; restores reserved names.

        Returns:
            `changed`: (name, type, size, preview) of variables that appeared or changed; `removed`: names that went;
            `restored`: reserved names that were overwritten.
        """
        self._take_tools()
        restored = [name for name, own in self._functions.items() if self._namespace.get(name) is not own]
        self._namespace.update({name: self._functions[name] for name in restored})
        now = {name: (id(self._namespace[name]), describe(self._namespace[name], _PREVIEW)) for name in self._names()}
        changed = [(name, *seen[1]) for name, seen in now.items() if self._seen.get(name) != seen]
        removed = [name for name in self._seen if name not in now]
        self._seen = now
        return {"changed": changed, "removed": removed, "restored": restored}

    def clear(self) -> dict[str, Any]:
        """Empty the namespace of all that came after this object was made; returns it."""
        left = {name: value for name, value in self._namespace.items() if name not in self._first}
        left = {name: value for name, value in left.items() if name not in self._functions}
        for name in left:
            del self._namespace[name]
        self._seen, self._hidden = {}, {}
        return left

    def _take_tools(self) -> None:
        """Make the tools that the host has sent; those of an earlier question go, and what they hid comes back."""
        names = self._namespace
        if CARRIER not in names:
            return
        try:
            tools = read(names.pop(CARRIER), self._channel)
        except Exception:  # noqa: BLE001 - the code may write to any name, and harms itself alone
            return
        for name, function in self._tools.items():
            del self._functions[name]
            if names.get(name) is function:
                del names[name]
        for name, value in self._hidden.items():
            names.setdefault(name, value)
        self._tools, self._hidden = tools, {name: names[name] for name in tools if name in names}
        self._functions |= tools
        names.update(tools)

    def save(self, skipped: Iterable[str], room: int) -> None:
        """Send the variables to the host as bytes, but for those of these names; see `saving.save`."""
        names = [name for name, value in self._first.items() if self._namespace.get(name) is value]
        saving.save(
            self._namespace, self._functions, {*skipped, *names, *self._functions, *_HIDDEN}, room, self._channel.call
        )

    def load(self, specs: str) -> str:
        """Make variables of bytes; tells as JSON which could not be made. See `saving.load`."""
        return _Table(json.dumps(saving.load(self._namespace, self._functions, json.loads(specs))))


def _imported(value: Any) -> bool:
    """Modules, and functions and classes that come from one: the model made none of them."""
    kind = type(value)  # not isinstance: that asks the value, which may be hostile
    if issubclass(kind, types.ModuleType):
        return True
    is_code = issubclass(kind, types.FunctionType | types.BuiltinFunctionType | type)
    return is_code and getattr(value, "__module__", None) != "__main__"


def refuse_input(*_: Any, **__: Any) -> NoReturn:
    """Stands where `input` and `getpass` are.

    Raises:
        RuntimeError: always: nobody is there to type.
    """
    raise RuntimeError("input() is not available: nobody is there to answer. Work with the variables that you have.")


def refuse_exit(*_: Any, **__: Any) -> NoReturn:
    """Stands where `exit` and `quit` are.

    Raises:
        RuntimeError: always: only an answer ends the run.
    """
    raise RuntimeError("exit() is not available: call SUBMIT to end the run")
