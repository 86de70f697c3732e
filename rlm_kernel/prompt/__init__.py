"""What the model is told, and how the code is read back out of its reply. Pure text in, pure text out.

A conversation only ever grows at its end, so that a provider can cache its beginning.
"""

from __future__ import annotations

from rlm_kernel.prompt.compaction import (
    excerpts,
    shortened,
    summary_call,
    summary_message,
    summary_notice,
    transcript,
)
from rlm_kernel.prompt.direct import answer_of, direct_mend, direct_message, direct_system
from rlm_kernel.prompt.excerpt import Excerpt, within
from rlm_kernel.prompt.follow_up import follow_up, told
from rlm_kernel.prompt.reply import read_code
from rlm_kernel.prompt.system import system_prompt
from rlm_kernel.prompt.turns import (
    ACCEPTED,
    CellReport,
    final_message,
    first_message,
    no_code,
    observation,
    status_line,
)

__all__ = [
    "ACCEPTED",
    "CellReport",
    "Excerpt",
    "answer_of",
    "direct_mend",
    "direct_message",
    "direct_system",
    "excerpts",
    "final_message",
    "first_message",
    "follow_up",
    "no_code",
    "observation",
    "read_code",
    "shortened",
    "status_line",
    "summary_call",
    "summary_message",
    "summary_notice",
    "system_prompt",
    "told",
    "transcript",
    "within",
]
