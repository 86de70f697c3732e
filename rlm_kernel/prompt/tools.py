"""What the model is told of the tools."""

from __future__ import annotations

from rlm_kernel.config import Options
from rlm_kernel.tools import Tool

__all__ = ["SECTION_CHARS", "tools_section"]

SECTION_CHARS = 20_000
"""Of all tools together; with more, their descriptions are cut, at last to nothing."""
_HEAD = """
Tools, which run outside of the REPL, on the machine of whoever asks; call them there like any function. What goes in \
and comes out are plain values: text, numbers, lists, dicts, tables, arrays (objects arrive as dicts, dates as text, \
tuples and sets as lists). A tool that fails raises, with the name and the text of its own error. `help(name)` tells \
all about one. There are {calls:,} calls for the whole run, at most {at_once} at the same time, from threads:
"""


def tools_section(options: Options) -> str:
    """Every function with its parameters and its description; empty without any."""
    tools = options.tools.functions
    if not tools:
        return ""
    cuts = (2_000, 500, 100, 0)
    texts = ("".join(_told(tool, cut) for tool in tools) for cut in cuts)
    text = next((t for t in texts if len(t) <= SECTION_CHARS), "".join(f"- `{tool.name}(…)`\n" for tool in tools))
    return _HEAD.format(calls=options.max_tool_calls, at_once=options.max_concurrency) + text


def _told(tool: Tool, chars: int) -> str:
    about = "\n".join((tool.description, *tool.shape.classes)).strip()
    about = about if len(about) <= chars else f"{about[:chars].rstrip()}…" if chars else ""
    return f"- `{tool.heading}`\n" + "".join(f"    {line}\n" if line.strip() else "\n" for line in about.splitlines())
