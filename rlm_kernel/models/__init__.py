"""Models: the contract, the adapters that ship, recordings, prices. Importing this imports no provider's SDK."""

from __future__ import annotations

import re

from rlm_kernel.errors import InputError, closest
from rlm_kernel.models._provider import RESTART
from rlm_kernel.models.anthropic import AnthropicModel
from rlm_kernel.models.base import Completion, Delta, Image, Message, Model, OnDelta, Request, Usage
from rlm_kernel.models.openai import OpenAIModel
from rlm_kernel.models.prices import cost
from rlm_kernel.models.replay import Recording, ReplayModel, RunRecorder
from rlm_kernel.models.scripted import ScriptedModel

__all__ = [
    "RESTART",
    "AnthropicModel",
    "Completion",
    "Delta",
    "Image",
    "Message",
    "Model",
    "OnDelta",
    "OpenAIModel",
    "Recording",
    "ReplayModel",
    "Request",
    "RunRecorder",
    "ScriptedModel",
    "Usage",
    "cost",
    "resolve",
]

_EXAMPLES = ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5", "anthropic/claude-sonnet-5-5", "openai/gpt-5")


def resolve(spec: str | Model, *, check: bool = True) -> Model:
    """The model that a setting names; a model object passes through.

    Args:
        spec: `claude-…`, `anthropic/NAME`, `openai/NAME`, `gpt-…`, `o3`, or an object.
        check: find out now whether the SDK and a key are there. A replay needs neither, only the model's name.

    Raises:
        InputError: the name has none of the known forms.
        AuthenticationError: there is no key for it.
    """
    if not isinstance(spec, str):
        if isinstance(spec, Model):
            return spec
        raise InputError(f"a model is a name or an object with complete(), not {type(spec).__name__}")
    provider, slash, name = spec.partition("/")
    model: AnthropicModel | OpenAIModel
    if spec.startswith("claude-"):
        model = AnthropicModel(spec)
    elif slash and name and provider == "anthropic":
        model = AnthropicModel(name)
    elif slash and name and provider == "openai":
        model = OpenAIModel(name)
    elif re.match(r"(chat)?gpt-|o\d", spec):
        model = OpenAIModel(spec)
    else:
        forms = "'claude-…', 'anthropic/NAME', 'openai/NAME', 'gpt-…', 'o3', or a model object"
        raise InputError(f"unknown model '{spec}'{closest(spec, _EXAMPLES)}: use {forms}")
    if check:
        model.check()
    return model
