"""The line of `%%rlm`: options anywhere among the words of the signature. One parser makes the parsing and the help."""

from __future__ import annotations

import dataclasses
import keyword
import re
from collections.abc import Mapping
from typing import Any

from IPython.core.magic_arguments import argument

from rlm_kernel.config import Options, parse_value
from rlm_kernel.errors import InputError, closest
from rlm_kernel.tools import Toolbox

__all__ = ["OPTIONS", "Line", "option_arguments", "parse", "unquoted"]

OPTIONS = {f.name: f for f in dataclasses.fields(Options)}
_ON_THE_LINE = [f for f in OPTIONS.values() if f.name != "verbose"]


def _flag(name: str) -> str:
    """The option's spelling on the line: `--max-iterations`."""
    return "--" + name.replace("_", "-")


def option_arguments(function: Any) -> Any:
    """One argument of the magic for every option."""
    for option in reversed(_ON_THE_LINE):
        flags = (*option.metadata["flags"], _flag(option.name))
        default = f" (default: {option.default})" if option.default else ""
        text = f"{option.metadata['help']}{default}"
        if str(option.type) == "bool":
            function = argument(*flags, dest=option.name, action="store_true", default=None, help=text)(function)
        else:
            function = argument(*flags, dest=option.name, metavar=option.metadata["metavar"], help=text)(function)
    return function


def unquoted(line: str) -> list[str]:
    """The words of a line; one in quotes may hold spaces."""
    return [_bare(word) for word in _words(line)]


def _words(line: str) -> list[str]:
    return re.findall(r"""(?:"[^"]*"|'[^']*'|\S)+""", line)


def _bare(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """What the line says."""

    out: str
    """The name to bind."""
    options: dict[str, Any]
    signature: str
    dry_run: bool
    continues: bool
    """The conversation goes on."""


def _apart(parser: Any, line: str) -> tuple[list[str], list[str]]:
    """The options with their values, and the words of the signature."""
    lists = {s for a in parser._actions for s in a.option_strings if str(a.metavar).endswith(",…")}
    takes_value = {s: a.nargs is None for a in parser._actions for s in a.option_strings}
    mine, words = [], []
    pending = iter(_words(line))
    for word in pending:
        if not re.match(r"--?[A-Za-z]", word):
            words.append(word)
            continue
        name, equals, _ = word.partition("=")
        if name not in takes_value:
            raise InputError(f"unknown option {name}{closest(name, list(takes_value))}; '%%rlm?' lists all")
        mine.append(word)
        if takes_value[name] and not equals:
            value = next(pending, None)
            if value is None:
                raise InputError(f"option {name} needs a value")
            while name in lists and value.endswith(",") and (more := next(pending, None)) is not None:
                value += more
            mine.append(value)
    return mine, words


def parse(parser: Any, line: str, names: Mapping[str, Any]) -> Line:
    """Read the line.

    Args:
        parser: of the magic.
        line: behind its name.
        names: the variables of the notebook; tools are looked up there.

    Raises:
        InputError: something of it cannot be read.
    """
    mine, words = _apart(parser, line)
    args = vars(parser.parse_args([_bare(word) for word in mine]))
    given = {}
    for name, option in OPTIONS.items():
        value = args.get(name)
        if name == "tools" and value is not None:
            given[name] = Toolbox.named(value, names)
        elif value is not None:
            given[name] = parse_value(option, value) if isinstance(value, str) else value
    out = args["out"]
    if not out.isidentifier() or keyword.iskeyword(out):
        raise InputError(f"-o takes a name to bind the result to, not {out!r}")
    return Line(out, given, " ".join(words), args["dry_run"], args["continues"])
