"""Tools: functions and data of the notebook that the code in the sandbox may use.

A tool is a hole in the sandbox, and is meant to be one: it runs outside, in this process, with all that its user may
do. What it can be made to do, the code can have done. Its arguments come from the sandbox, so they are hostile; what it
returns is the sandbox's from then on.
"""

from __future__ import annotations

from rlm_kernel.tools.checked import MAX_CHARS, Outcome, perform, told
from rlm_kernel.tools.values import DataTool, Tool, Toolbox, tool
from rlm_kernel.tools.workers import Workers

__all__ = ["MAX_CHARS", "DataTool", "Outcome", "Tool", "Toolbox", "Workers", "perform", "told", "tool"]
