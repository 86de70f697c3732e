"""What the model is told, and how the code is read back out of its reply. Pure text in, pure text out.

A conversation only ever grows at its end, so that a provider can cache its beginning.
"""

from __future__ import annotations

from rlm_kernel.prompt.excerpt import Excerpt, within
from rlm_kernel.prompt.reply import read_code
from rlm_kernel.prompt.system import system_prompt
from rlm_kernel.prompt.turns import CellReport, final_message, first_message, no_code, observation, status_line

__all__ = [
    "CellReport",
    "Excerpt",
    "final_message",
    "first_message",
    "no_code",
    "observation",
    "read_code",
    "status_line",
    "system_prompt",
    "within",
]
