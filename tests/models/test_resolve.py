"""Names of models, what importing costs, and prices."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rlm_kernel.models
from rlm_kernel.errors import AuthenticationError, InputError
from rlm_kernel.models import AnthropicModel, OpenAIModel, ScriptedModel, Usage, cost, resolve


def test_a_model_object_passes_through() -> None:
    """Bring your own."""
    scripted = ScriptedModel([])
    assert resolve(scripted) is scripted


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("claude-sonnet-5-5", AnthropicModel, "claude-sonnet-5-5"),
        ("anthropic/some-name", AnthropicModel, "some-name"),
        ("openai/qwen/qwen3", OpenAIModel, "qwen/qwen3"),
        ("gpt-5", OpenAIModel, "gpt-5"),
        ("o3-mini", OpenAIModel, "o3-mini"),
    ],
)
def test_a_name_tells_the_provider(spec: str, kind: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its beginning."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    resolved = resolve(spec)
    assert (type(resolved), resolved.name) == (kind, name)


@pytest.mark.parametrize("spec", ["claude-sonnet-5-5", "gpt-5"])
def test_a_missing_key_is_found_at_once(spec: str) -> None:
    """Unless only the name is wanted, as a replay does."""
    with pytest.raises(AuthenticationError):
        resolve(spec)
    assert resolve(spec, check=False).name == spec


@pytest.mark.parametrize("spec", ["", "llama", "anthropic/", "openai/", "mistral/large", "cluade-sonnet-5-5"])
def test_an_unknown_name_lists_the_forms(spec: str) -> None:
    """In one line, with the nearest known name if there is one."""
    with pytest.raises(InputError, match="'anthropic/NAME'") as caught:
        resolve(spec)
    assert "\n" not in str(caught.value)
    assert ("did you mean 'claude-sonnet-5-5'" in str(caught.value)) == (spec == "cluade-sonnet-5-5")


def test_what_is_no_model_is_refused() -> None:
    """With its type."""
    with pytest.raises(InputError, match="not int"):
        resolve(3)  # type: ignore[arg-type]


def test_all_is_what_can_be_imported() -> None:
    """Every public name is there."""
    assert [name for name in rlm_kernel.models.__all__ if not hasattr(rlm_kernel.models, name)] == []


def test_importing_imports_no_sdk() -> None:
    """Neither SDK nor the price list nor the retry library: a notebook that only replays pays for none of them."""
    heavy = ("anthropic", "openai", "genai_prices", "stamina", "httpx", "httpx2", "pydantic")
    code = f"import sys, rlm_kernel.models; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_cost_counts_the_cache_at_its_own_price() -> None:
    """$2 in, $10 out, $0.1 read, $2.5 written per million: 0.002 + 0.0005 + 0.00002 + 0.00075."""
    usage = Usage(input_tokens=1000, output_tokens=50, cache_read_tokens=200, cache_write_tokens=300)
    for model in ("claude-sonnet-5-5", "anthropic/claude-sonnet-5-5"):
        assert cost(usage, model) == pytest.approx(0.00327)
    assert cost(Usage(), "claude-sonnet-5-5", "anthropic") == 0.0


@pytest.mark.parametrize(
    ("model", "provider"), [("scripted", None), ("", None), ("nobody/x", None), ("claude-sonnet-5-5", "nobody")]
)
def test_an_unknown_price_is_none(model: str, provider: str | None) -> None:
    """It is neither nothing nor an error."""
    assert cost(Usage(1, 1), model, provider) is None
