"""Recursive Language Models native to Jupyter: `%%rlm` asks a question about notebook variables.

Importing is cheap: every public name is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from rlm_kernel.config import Options, configure
    from rlm_kernel.errors import (
        AuthenticationError,
        DriftError,
        InputError,
        InterruptedRunError,
        ModelError,
        RecordingError,
        RLMError,
        SandboxError,
        SignatureError,
        TransferError,
    )
    from rlm_kernel.keeping import Kept
    from rlm_kernel.models import AnthropicModel, OpenAIModel, ScriptedModel
    from rlm_kernel.models.base import Completion, Delta, Message, Model, Request
    from rlm_kernel.preflight import Preflight
    from rlm_kernel.result import Result
    from rlm_kernel.rlm import RLM
    from rlm_kernel.sandbox.base import CellResult, Chunk, RefusedError, Sandbox, ScratchFile
    from rlm_kernel.sandbox.fake import FakeSandbox
    from rlm_kernel.sandbox.kernel import KernelSandbox
    from rlm_kernel.sandbox.remote.server import JupyterServer
    from rlm_kernel.signature import Field, Signature
    from rlm_kernel.tools import DataTool, Tool, tool
    from rlm_kernel.trajectory import Cell, Iteration, Subcall, ToolCall, Trajectory
    from rlm_kernel.usage import Usage

_HOMES = {
    "config": ("Options", "configure"),
    "errors": (
        "AuthenticationError",
        "DriftError",
        "InputError",
        "InterruptedRunError",
        "ModelError",
        "RLMError",
        "RecordingError",
        "SandboxError",
        "SignatureError",
        "TransferError",
    ),
    "keeping": ("Kept",),
    "models": ("AnthropicModel", "OpenAIModel", "ScriptedModel"),
    "models.base": ("Completion", "Delta", "Message", "Model", "Request"),
    "preflight": ("Preflight",),
    "result": ("Result",),
    "rlm": ("RLM",),
    "sandbox.base": ("CellResult", "Chunk", "RefusedError", "Sandbox", "ScratchFile"),
    "sandbox.fake": ("FakeSandbox",),
    "sandbox.kernel": ("KernelSandbox",),
    "sandbox.remote.server": ("JupyterServer",),
    "signature": ("Field", "Signature"),
    "tools": ("DataTool", "Tool", "tool"),
    "trajectory": ("Cell", "Iteration", "Subcall", "ToolCall", "Trajectory"),
    "usage": ("Usage",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "RLM",
    "AnthropicModel",
    "AuthenticationError",
    "Cell",
    "CellResult",
    "Chunk",
    "Completion",
    "DataTool",
    "Delta",
    "DriftError",
    "FakeSandbox",
    "Field",
    "InputError",
    "InterruptedRunError",
    "Iteration",
    "JupyterServer",
    "Kept",
    "KernelSandbox",
    "Message",
    "Model",
    "ModelError",
    "OpenAIModel",
    "Options",
    "Preflight",
    "RLMError",
    "RecordingError",
    "RefusedError",
    "Request",
    "Result",
    "Sandbox",
    "SandboxError",
    "ScratchFile",
    "ScriptedModel",
    "Signature",
    "SignatureError",
    "Subcall",
    "Tool",
    "ToolCall",
    "Trajectory",
    "TransferError",
    "Usage",
    "configure",
    "load_ipython_extension",
    "tool",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'rlm_kernel' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"rlm_kernel.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Called by `%load_ext rlm_kernel`: registers `%%rlm` and `%rlm`."""
    from rlm_kernel.magic import load

    load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Called by `%unload_ext rlm_kernel`: ends the sandboxes and takes the magics away."""
    from rlm_kernel.magic import unload

    unload(ipython)
