"""Options: merged, checked, read from the environment, configured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from rlm_kernel import RLM, FakeSandbox, InputError, Options, ScriptedModel, configure
from rlm_kernel.config import defaults
from tests.helpers import code, defaults_restored


@pytest.fixture(autouse=True)
def own_defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for option in dataclasses.fields(Options):
        monkeypatch.delenv(f"RLM_{option.name.upper()}", raising=False)
    with defaults_restored():
        yield


def refusal(**options: Any) -> str:
    with pytest.raises(InputError) as caught:
        Options().merged(options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_defaults_are_those_that_are_documented() -> None:
    """Limits, models and display have the documented defaults."""
    options = Options()
    assert (
        options.max_iterations,
        options.max_llm_calls,
        options.max_output_chars,
        options.max_errors,
    ) == (20, 50, 20_000, 5)
    assert (options.model, options.sub_model) == ("claude-sonnet-5-5", "claude-haiku-5-5")
    assert (options.timeout, options.cell_timeout, options.sandbox) == (None, 600.0, None)
    assert (options.fresh, options.quiet, options.verbose) == (False, False, False)


def test_every_option_has_a_help_text() -> None:
    """Whoever asks `%%rlm?` reads one line on every option."""
    assert [f.name for f in dataclasses.fields(Options) if not f.metadata["help"]] == []


def test_options_are_frozen() -> None:
    """An option cannot be changed behind a run's back."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().timeout = 3  # type: ignore[misc]


def test_a_list_of_hosts_is_read_at_once() -> None:
    """A wrong one is told where it is set, not with the next question."""
    assert Options().merged({"sandbox_net": "api.example.org:443,*.example.net"}).sandbox_net
    assert "'http://example.org' is no host" in refusal(sandbox_net="http://example.org")
    assert "sandbox_net takes HOST[:PORT]" in refusal(sandbox_net=["example.org"])


def test_merging_leaves_the_original_alone() -> None:
    """`merged` makes new options."""
    before = Options()
    after = before.merged({"max_iterations": 3, "timeout": None, "cell_timeout": 1})
    assert (before.max_iterations, after.max_iterations, after.cell_timeout) == (20, 3, 1)


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    """A slip of the pen is named, with what was probably meant and what there is."""
    text = refusal(max_iteration=3)
    assert "unknown option 'max_iteration'" in text
    assert "did you mean 'max_iterations'?" in text
    assert "cell_timeout" in text


@pytest.mark.parametrize("name", ["max_iterations", "max_llm_calls", "max_output_chars", "max_errors", "timeout"])
@pytest.mark.parametrize("value", [-1, True, "3", [3]])
def test_a_limit_is_a_number_that_makes_sense(name: str, value: Any) -> None:
    """Negative numbers, bools, texts and lists are no limits."""
    assert name in refusal(**{name: value})


@pytest.mark.parametrize("name", ["max_iterations", "max_errors", "max_concurrency", "timeout", "cell_timeout"])
def test_zero_is_refused_where_nothing_could_run(name: str) -> None:
    """A run without turns, errors, concurrency or time is a mistake."""
    assert "at least" in refusal(**{name: 0})


def test_no_sub_calls_at_all_is_a_fine_limit() -> None:
    """`max_llm_calls=0` forbids sub-calls."""
    assert Options().merged({"max_llm_calls": 0}).max_llm_calls == 0


@pytest.mark.parametrize("name", ["max_iterations", "max_llm_calls", "max_output_chars", "max_errors"])
@pytest.mark.parametrize("value", [None, 2.5, float("nan")])
def test_a_count_is_a_whole_number(name: str, value: Any) -> None:
    """None, fractions and NaN are no counts."""
    assert "whole number" in refusal(**{name: value})


@pytest.mark.parametrize("name", ["timeout", "cell_timeout"])
def test_nan_is_no_time(name: str) -> None:
    """A time of NaN seconds would end the run at once; it is refused."""
    assert name in refusal(**{name: float("nan")})


@pytest.mark.parametrize(
    ("name", "value"),
    [("quiet", "no"), ("fresh", 3), ("verbose", None), ("record", 5), ("replay", object()), ("sandbox", 5)],
)
def test_an_option_of_the_wrong_kind_is_refused(name: str, value: Any) -> None:
    """Flags, files and sandboxes are checked as limits are, before anything starts."""
    assert name in refusal(**{name: value})


def test_models_and_sandboxes_may_be_objects() -> None:
    """A model and a sandbox of one's own pass through as they are."""
    model, sandbox = ScriptedModel([]), FakeSandbox()
    options = Options().merged({"model": model, "sandbox": sandbox})
    assert model is options.model
    assert sandbox is options.sandbox


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("MAX_ITERATIONS", "7", 7),
        ("MAX_LLM_CALLS", "0", 0),
        ("QUIET", "yes", True),
        ("QUIET", "TRUE", True),
        ("FRESH", "0", False),
        ("TIMEOUT", "2.5", 2.5),
        ("TIMEOUT", "none", None),
        ("CELL_TIMEOUT", "", None),
        ("MODEL", "openai/gpt-5", "openai/gpt-5"),
        ("SANDBOX", "python3", "python3"),
        ("RECORD", "run.json", "run.json"),
    ],
)
def test_the_environment_sets_defaults(monkeypatch: pytest.MonkeyPatch, name: str, text: str, expected: Any) -> None:
    """`RLM_<OPTION>` holds where nothing else was said."""
    monkeypatch.setenv(f"RLM_{name}", text)
    assert expected == getattr(defaults(), name.lower())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MAX_ITERATIONS", "abc"),
        ("MAX_ITERATIONS", ""),
        ("MAX_ITERATIONS", "2.5"),
        ("MAX_ITERATIONS", "0"),
        ("TIMEOUT", "soon"),
        ("TIMEOUT", "-3"),
        ("TIMEOUT", "nan"),
        ("QUIET", "perhaps"),
    ],
)
def test_a_wrong_value_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """The error says which variable of the environment is wrong, in one line."""
    monkeypatch.setenv(f"RLM_{name}", text)
    with pytest.raises(InputError, match=f"RLM_{name}") as caught:
        defaults()
    assert "\n" not in str(caught.value)


def test_configure_returns_and_keeps_all_options() -> None:
    """`configure` adds to what was configured before."""
    configure(max_iterations=3)
    returned = configure(max_errors=2)
    assert (returned.max_iterations, returned.max_errors) == (3, 2)
    assert returned == defaults()


def test_a_refused_configure_changes_nothing() -> None:
    """One wrong value leaves every default as it was."""
    configure(max_iterations=3)
    with pytest.raises(InputError):
        configure(max_iterations=4, timeout=-1)
    assert defaults().max_iterations == 3


def test_the_call_goes_before_configure_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearer settings win: the call, then `configure`, then the environment, then the default."""
    monkeypatch.setenv("RLM_MAX_ITERATIONS", "9")
    monkeypatch.setenv("RLM_MAX_ERRORS", "9")
    monkeypatch.setenv("RLM_MAX_LLM_CALLS", "9")
    configure(max_errors=8, max_llm_calls=8)
    merged = defaults().merged({"max_llm_calls": 7})
    assert (
        merged.max_iterations,
        merged.max_errors,
        merged.max_llm_calls,
        merged.max_output_chars,
    ) == (9, 8, 7, 20_000)


def test_a_bad_option_stops_the_constructor() -> None:
    """`RLM(...)` refuses a wrong option before there is a sandbox."""
    with pytest.raises(InputError, match="max_iterations"):
        RLM("-> a", max_iterations=0)


def test_configured_models_answer() -> None:
    """A model that `configure` was given answers a call that names none."""
    model = ScriptedModel([code("SUBMIT('configured')")])
    configure(model=model, sub_model=model)
    with RLM("-> answer", sandbox=FakeSandbox()) as rlm:
        assert rlm("Who?").answer == "configured"
