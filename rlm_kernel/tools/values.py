"""What is handed over as tools: values that are checked when they are made."""

from __future__ import annotations

import functools
import inspect
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, overload

from rlm_kernel.errors import InputError, closest
from rlm_kernel.events import Variable
from rlm_kernel.names import name_problem
from rlm_kernel.sandbox.guest.describe import describe
from rlm_kernel.tools.shape import Shape, documentation

__all__ = ["DataTool", "Tool", "Toolbox", "tool"]

MAX_TOOLS = 100
MAX_DESCRIPTION = 10_000
"""Characters that are told of a tool, at most."""


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that the code in the sandbox may call. It runs in this process, outside of the sandbox.

    It can still be called here, as the function it is.

    Args:
        function: any callable, `async` ones too. A sync one runs in a thread of its own, several calls at once if the
            code makes them; an async one on an event loop that all such tools share, which is not the notebook's.
        name: what the code calls it; the function's own without.
        description: what the model is told of it; the docstring without.

    Raises:
        InputError: it cannot be called, or cannot have this name.
    """

    function: Callable[..., Any]
    name: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"a tool is a function, not {type(self.function).__name__}; data is DataTool(name, value)")
        if isinstance(self.function, Tool):  # with another name, say
            object.__setattr__(self, "name", self.name or self.function.name)
            object.__setattr__(self, "description", self.description or self.function.description)
            object.__setattr__(self, "function", self.function.function)
        name = self.name or getattr(self.function, "__name__", "")
        if not isinstance(name, str) or not name or name == "<lambda>":
            raise InputError(f"{_shown(self.function)} has no name of its own: tool(f, name='…') gives it one")
        if wrong := name_problem(name, "tool"):
            raise InputError(f"{wrong}: tool(f, name='…')")
        object.__setattr__(self, "name", name)
        told = self.description or documentation(self.function)
        object.__setattr__(self, "description", told[:MAX_DESCRIPTION].strip())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Tool:
        """Of a method: the tool of one object."""
        return self if instance is None else replace(self, function=functools.partial(self.function, instance))

    @functools.cached_property
    def shape(self) -> Shape:
        """Its parameters and its result."""
        return Shape(self.function)

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether it is a coroutine function."""
        called = self.function if inspect.isroutine(self.function) else type(self.function).__call__
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(called)

    @property
    def heading(self) -> str:
        """`read_file(path: str) -> str`."""
        return f"{self.name}{self.shape.text}"


@dataclass(frozen=True, eq=False)
class DataTool:
    """Data that the code in the sandbox finds as a variable, with a description for the model.

    Args:
        name: of the variable.
        value: anything that can be pickled; the sandbox gets a copy for each question.
        description: what the model is told of it, besides its type, size and first values.

    Raises:
        InputError: no variable can have this name.
    """

    name: str
    value: Any = field(repr=False)
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InputError(f"DataTool takes the name first, as text, not {type(self.name).__name__}")
        if not isinstance(self.description, str):
            raise InputError(f"tool '{self.name}': its description has to be text")
        if wrong := name_problem(self.name, "tool"):
            raise InputError(wrong)


@overload
def tool(function: Callable[..., Any], /, *, name: str = "", description: str = "") -> Tool: ...
@overload
def tool(*, name: str = "", description: str = "") -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str = "", description: str = ""
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function: `@tool`, `@tool(name="…")`, or `tool(f, name="…", description="…")`.

    Functions need not be made tools to be handed over; this is for another name or description. See `Tool`.

    Raises:
        InputError: it cannot be called, or cannot have this name.
    """
    if function is None:
        return lambda given: Tool(given, name, description)
    return Tool(function, name, description)


@dataclass(frozen=True, eq=False)
class Toolbox:
    """The tools of a question.

    Attributes:
        functions: those that are called.
        data: those that are variables.
    """

    functions: tuple[Tool, ...] = ()
    data: tuple[DataTool, ...] = ()

    @classmethod
    def of(cls, given: Toolbox | Iterable[Tool | DataTool | Callable[..., Any]]) -> Self | Toolbox:
        """What was handed over, as tools.

        Raises:
            InputError: something of it can be no tool, or two have the same name.
        """
        if isinstance(given, Toolbox):
            return given
        if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
            raise InputError(
                "tools takes a list, [read_file, DataTool('users', users, 'what they are')], "
                f"not {type(given).__name__}"
            )
        made = [item if isinstance(item, Tool | DataTool) else Tool(item) for item in given]
        if len(made) > MAX_TOOLS:
            raise InputError(f"{len(made)} tools are more than the {MAX_TOOLS} that a question may have")
        names = [item.name for item in made]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"two tools are called '{twice}': tool(f, name='…') gives one of them another name")
        functions = tuple(item for item in made if isinstance(item, Tool))
        return cls(functions, tuple(item for item in made if isinstance(item, DataTool)))

    @classmethod
    def named(cls, names: str, known: Mapping[str, Any]) -> Self | Toolbox:
        """The tools that a line names: `read_file,db.lookup`.

        Args:
            names: with commas between them; what is behind the last dot is the tool's name, if it has none.
            known: the variables of the notebook.

        Raises:
            InputError: one of them is nothing that can be a tool.
        """
        return cls.of([_named(word.strip(), known) for word in names.split(",") if word.strip()])

    def __len__(self) -> int:
        return len(self.functions) + len(self.data)

    def find(self, name: object) -> Tool | None:
        """The function of this name."""
        return self._by_name.get(name) if isinstance(name, str) else None

    @functools.cached_property
    def _by_name(self) -> Mapping[str, Tool]:
        return {item.name: item for item in self.functions}

    @functools.cached_property
    def told(self) -> str:
        """What the sandbox is sent to make the functions from; empty without any."""
        made = [[item.name, f"{item.heading}\n\n{item.description}".strip()] for item in self.functions]
        return json.dumps(made) if made else ""

    @property
    def hole(self) -> str:
        """What they take away from the isolation of the sandbox, in words; empty without functions."""
        names = ", ".join(item.name for item in self.functions)
        return f" The code can have {names} called in the notebook's process, outside of the sandbox." if names else ""

    @property
    def described(self) -> tuple[Variable, ...]:
        """The data, as the model is told of them."""
        return tuple(Variable(d.name, *describe(d.value), d.description) for d in self.data)

    @property
    def values(self) -> dict[str, Any]:
        """The data, by name."""
        return {d.name: d.value for d in self.data}

    def check(self, variables: Iterable[str]) -> None:
        """See that no tool is named like a variable of the question.

        Raises:
            InputError: one is.
        """
        names = {item.name for item in self.functions} | {item.name for item in self.data}
        if both := next((name for name in variables if name in names), None):
            raise InputError(f"'{both}' is both a variable of the question and a tool: rename one of them")


def _named(path: str, known: Mapping[str, Any]) -> Tool | DataTool:
    root, _, rest = path.partition(".")
    if root not in known:
        raise InputError(f"--tools: nothing is called '{root}'{closest(root, [n for n in known if n[:1] != '_'])}")
    try:
        value = operator.attrgetter(rest)(known[root]) if rest else known[root]
    except AttributeError as error:
        raise InputError(f"--tools {path}: {error}") from None
    if isinstance(value, Tool | DataTool):
        return value
    if not callable(value):
        raise InputError(
            f"--tools: '{path}' is no function; data goes into the signature, or with a description into "
            f"DataTool('{root}', {path}, 'what it is')"
        )
    return Tool(value, path.rpartition(".")[2])


def _shown(function: object) -> str:
    """A callable in a few words, without its address."""
    name = getattr(function, "__name__", "")
    return "a lambda" if name == "<lambda>" else f"a callable of type {type(function).__name__}"
