"""`--see`: which figures of the code the model is shown, and what it is told of the others."""

from __future__ import annotations

import base64
import io
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from rlm_kernel import RLM, AnthropicModel, DriftError, InputError, KernelSandbox, ScriptedModel
from rlm_kernel.figures import A_RUN, A_TURN, MOST_BYTES, MOST_PIXELS, Figures
from rlm_kernel.granting import IMAGE_TOKENS, input_bound
from rlm_kernel.models import Message, OpenAIModel, Request
from rlm_kernel.sandbox.base import CellResult, Chunk, OnChunk
from rlm_kernel.sandbox.fake import FakeSandbox
from tests.fakes.provider import FakeProvider, anthropic, openai
from tests.helpers import code, play

Bundle = dict[str, Any]


def drawn(kind: str = "png", width: int = 31, height: int = 17) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Pillow.new("RGB", (width, height), "red").save(file, kind)
    return file.getvalue()


def bundle(content: bytes, mime: str = "image/png") -> Bundle:
    """As a kernel sends it."""
    return {mime: base64.encodebytes(content).decode(), "text/plain": "<Figure>"}


def padded(size: int) -> bytes:
    """A complete PNG of about this size: a chunk of text before its end."""
    content, text = drawn(), b"tEXt" + os.urandom(size)
    return content[:-12] + size.to_bytes(4) + text + zlib.crc32(text).to_bytes(4) + content[-12:]


PNG = bundle(drawn())


class Displaying(FakeSandbox):
    """Its cells that say `show` display these bundles, the next list each time."""

    def __init__(self, *shown: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._shown = list(shown)

    async def execute(self, source: str, on_chunk: OnChunk) -> CellResult:
        """Display, then run."""
        if "show" in source:
            for each in self._shown.pop(0):
                on_chunk(Chunk("display", "<Figure>\n", each))
        return await super().execute(source, on_chunk)


SHOW, DONE = code("'show'"), code("SUBMIT('x')")


# -- which ones ---------------------------------------------------------------------------------------------------
def test_figures_that_a_provider_takes_are_shown() -> None:
    """PNG and JPEG, as the bytes that the code displayed."""
    images, told = Figures().choose([PNG, bundle(drawn("jpeg"), "image/jpeg"), {"text/html": "<b>a table</b>"}])
    assert [(i.media_type, i.data) for i in images] == [("image/png", drawn()), ("image/jpeg", drawn("jpeg"))]
    assert told == "(2 figures displayed; you see 2 of them above.)"


def test_a_turn_without_a_figure_is_told_nothing() -> None:
    """Tables and text are no figures."""
    assert Figures().choose([{"text/html": "<b>a table</b>"}, {}]) == ((), "")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (bundle(drawn(width=MOST_PIXELS + 1, height=1)), "it has 8,001 x 1 pixels, and 8,000 on a side is the most"),
        (bundle(drawn() + os.urandom(MOST_BYTES * 3 // 4)), "it has 5.1 MB as base64, and 5 is the most"),
        (bundle(drawn("gif"), "image/gif"), "image/gif cannot be shown, PNG and JPEG can"),
        (bundle(drawn()[:-4]), "it is a damaged image/png"),
        (bundle(drawn()[:40] + b"?" + drawn()[41:]), "it is a damaged image/png"),
        (bundle(drawn("jpeg")[:-20], "image/jpeg"), "it is a damaged image/jpeg"),
        ({"image/png": base64.b64encode(padded(10_000)).decode() + "*"}, "it is a damaged image/png"),
    ],
    ids=["pixels", "bytes", "kind", "cut short", "a flipped byte", "half a JPEG", "no base64"],
)
def test_one_that_would_be_refused_is_left_out(given: Bundle, why: str) -> None:
    """The model is told which and why, and sees the others."""
    images, told = Figures().choose([given, PNG])
    assert [i.data for i in images] == [drawn()]
    assert told == f"(2 figures displayed; you see 1 of them above; figure 1 is not shown: {why}.)"


def test_few_are_shown_of_a_turn() -> None:
    """The first ones, and the others are counted."""
    images, told = Figures().choose([PNG] * 9)
    assert len(images) == A_TURN == 3
    assert told.startswith("(9 figures displayed; you see 3 of them above; figure 4 is not shown: 3 a turn is the most")
    assert told.endswith("; nor are 3 others.)")


def test_a_run_shows_a_bounded_number() -> None:
    """Then the model is told so, and to print instead."""
    figures = Figures()
    shown = [len(figures.choose([PNG, PNG])[0]) for _ in range(A_RUN)]
    assert sum(shown) == A_RUN
    assert figures.choose([PNG]) == (
        (),
        "(1 figure displayed; none is shown to you; figure 1 is not shown: this run has shown as much as it may "
        "(20 figures), print numbers instead.)",
    )


def test_a_run_shows_a_bounded_number_of_bytes() -> None:
    """A request of all its figures stays below what a provider takes."""
    large = bundle(padded(MOST_BYTES * 3 // 4 - 200_000))
    figures = Figures()
    shown = sum(len(figures.choose([large])[0]) for _ in range(6))
    assert 0 < shown * len(large["image/png"]) <= 20 * 2**20 < (shown + 1) * len(large["image/png"])


@given(st.lists(st.one_of(st.just(PNG), st.builds(bundle, st.binary(max_size=60)), st.just({})), max_size=8))
@settings(deadline=None)
def test_hostile_bundles_never_fail(displayed: list[Bundle]) -> None:
    """Whatever is displayed, only whole pictures are shown, and the number that is told is right."""
    images, told = Figures().choose(displayed)
    assert all(i.data == drawn() for i in images)
    assert len(images) == min(A_TURN, displayed.count(PNG))
    assert ("displayed" in told) == (PNG in displayed)


# -- in a run -----------------------------------------------------------------------------------------------------
def test_figures_go_with_the_next_message() -> None:
    """Of two blocks, in their order; they stay in the conversation, and the next turn has none of its own."""
    jpeg = bundle(drawn("jpeg"), "image/jpeg")
    played = play([code("'show'", "'show' + '!'"), code("1"), DONE], sandbox=Displaying([PNG], [jpeg]), see=True)
    first, second, third = played.roots
    assert first.messages[-1].images == ()
    assert [i.media_type for i in second.messages[-1].images] == ["image/png", "image/jpeg"]
    assert second.messages[-1].content.startswith("(2 figures displayed; you see 2 of them above.)\n\nBlock 1: ok")
    assert third.messages[: len(second.messages)] == second.messages
    assert third.messages[-1].images == ()
    assert played.trajectory.values == {"answer": "x"}


def test_without_the_option_nothing_is_shown() -> None:
    """Neither the figures nor a word about them."""
    played = play([SHOW, DONE], sandbox=Displaying([PNG]))
    assert all(message.images == () for request in played.roots for message in request.messages)
    assert not any("igure" in text for text in (played.roots[0].system, played.told[1].replace("<Figure>", "")))


def test_the_model_is_told_beforehand() -> None:
    """The system prompt says that figures are shown, and how many."""
    system = play([DONE], see=True).roots[0].system
    assert (
        "Figures that it displays (`plt.show()`) are shown to you as well, as PNG or JPEG, at most 3 a turn and 20"
        in system
    )


def test_figures_of_the_last_turn_go_with_the_call_for_an_answer() -> None:
    """When the turns are used up, what was displayed last is still looked at."""
    played = play([SHOW, DONE], sandbox=Displaying([PNG]), see=True, max_iterations=1)
    assert [len(r.messages[-1].images) for r in played.roots] == [0, 1]
    assert "The run ends here" in played.told[1]


def test_a_budget_counts_figures() -> None:
    """Each as the most that one can take."""
    with_one = Request((Message("user", "hi", Figures().choose([PNG])[0]),))
    assert input_bound(with_one) - input_bound(Request((Message("user", "hi"),))) == IMAGE_TOKENS


def test_a_budget_too_small_for_figures_ends_the_run() -> None:
    """The call with the figures is not made: what three of them can take is kept free for the last one."""
    played = play([SHOW, DONE], sandbox=Displaying([PNG]), see=True, max_tokens=20_000, max_output_chars=100)
    assert played.trajectory.stop_reason == "max_tokens"
    blind = play([SHOW, DONE], sandbox=Displaying([PNG]), max_tokens=20_000, max_output_chars=100)
    assert blind.trajectory.stop_reason == "answered"


@pytest.mark.parametrize("model", [AnthropicModel("claude-2.1", api_key="k"), OpenAIModel("o3-mini", api_key="k")])
def test_a_model_that_cannot_see_is_told_of_beforehand(model: Any) -> None:
    """In one line, before anything starts."""
    with pytest.raises(InputError, match=f"--see: {model.name} takes no images; choose a model that does") as caught:
        RLM("-> answer", model=model, sub_model=model, see=True, sandbox=FakeSandbox())("What?")
    assert caught.value.result is None
    assert AnthropicModel("claude-sonnet-5-5").sees
    assert OpenAIModel("gpt-5").sees


# -- recordings ---------------------------------------------------------------------------------------------------
def asked(path: Path, shown: Bundle, **how: Any) -> Any:
    """A run that displays this, recorded or replayed."""
    scripted = {} if "replay" in how else {"model": ScriptedModel([SHOW, DONE]), "sub_model": ScriptedModel([])}
    rlm = RLM("-> answer", see=True, sandbox=Displaying([shown]), **scripted, **{k: str(path) for k in how})
    return rlm("What does it show?")


def test_a_recording_keeps_the_digest(tmp_path: Path) -> None:
    """And no base64; the replay, whose code displays the same, answers."""
    path = tmp_path / "run.json"
    asked(path, PNG, record=True)
    written = path.read_text()
    assert '"media_type": "image/png"' in written
    assert base64.b64encode(drawn()).decode()[:40] not in written
    assert asked(path, PNG, replay=True).answer == "x"


def test_another_figure_is_drift(tmp_path: Path) -> None:
    """A replay whose code displays something else fails, and shows both digests."""
    path = tmp_path / "run.json"
    asked(path, PNG, record=True)
    with pytest.raises(DriftError, match=r"-\[image/png [0-9a-f]{64}\]\n\+\[image/png [0-9a-f]{64}\]"):
        asked(path, bundle(drawn(width=32)), replay=True)


# -- with a kernel, matplotlib and the SDKs ------------------------------------------------------------------------
PLOT = "import matplotlib.pyplot as plt\nplt.plot(ys)\nplt.show()"


def test_a_plot_reaches_claude() -> None:
    """A plot of matplotlib's, in a real kernel, is an image block of the request, before the text and uncached."""
    with FakeProvider(anthropic(code(PLOT)), anthropic(code("SUBMIT('up')"))) as provider:
        model = AnthropicModel(base_url=provider.url, api_key="sk-test")
        with RLM("ys -> answer", model=model, sub_model=model, see=True, sandbox=KernelSandbox(level="none")) as rlm:
            result = rlm("Does it go up?", ys=[1, 2, 4])
    picture, text = provider.requests[1].body["messages"][-1]["content"]
    assert (picture["type"], picture["source"]["type"], picture["source"]["media_type"]) == (
        "image",
        "base64",
        "image/png",
    )
    assert "cache_control" not in picture
    assert text["cache_control"] == {"type": "ephemeral"}
    assert text["text"].startswith("(1 figure displayed; you see it above.)")
    with Pillow.open(io.BytesIO(base64.b64decode(picture["source"]["data"]))) as decoded:
        assert decoded.format == "PNG"
        assert min(decoded.size) > 100
    assert result.answer == "up"
    assert result.iterations[0].cells[0].outputs[-1].data["image/png"]


def test_a_plot_reaches_any_openai_server() -> None:
    """As a part with a data URI; a message without figures stays plain text, which every server takes."""
    with FakeProvider(openai(SHOW), openai(DONE)) as provider:
        model = OpenAIModel("gpt-5", base_url=f"{provider.url}/v1", api_key="k")
        RLM("-> answer", model=model, sub_model=model, see=True, sandbox=Displaying([PNG]))("What?")
    first, second = (r.body["messages"][-1]["content"] for r in provider.requests)
    assert isinstance(first, str)
    assert second[0]["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(drawn()).decode()}"
    assert second[1]["text"].startswith("(1 figure displayed")
