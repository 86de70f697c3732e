"""Finds the recorded answer to a request. What is no longer the same is refused with the difference.

Root requests follow their conversation; a request that follows none opens the recorded conversation that begins with
the same words. Sub-requests come from batches that finish in any order, so they are looked up by what they ask.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rlm_kernel.errors import AuthenticationError, DriftError, ModelError, PromptTooLongError
from rlm_kernel.models._drift import difference, masked, rendered, shared, shorten
from rlm_kernel.models._recorder import Thread, following
from rlm_kernel.models.base import Completion, Refused

if TYPE_CHECKING:
    from rlm_kernel.models._recorded import Call, Conversation, Failed, Run, Subcall
    from rlm_kernel.models.base import Request

__all__ = ["Tape", "raised"]

_SHOWN = 3
"""Unused calls that are quoted."""
_KINDS = {kind.__name__: kind for kind in (ModelError, AuthenticationError, PromptTooLongError)}


class Tape:
    """The recorded runs that a replay may be of, and how far it has come in the one it is of."""

    def __init__(self, runs: list[Run], file: str) -> None:
        self._candidates = runs
        self._file = file
        self._run: Run | None = None
        self._threads: list[Thread] = []
        self._waiting: list[Conversation] = []
        self._subcalls: dict[tuple[str, ...], list[Subcall]] = defaultdict(list)

    @property
    def model(self) -> str:
        """The name of the run's model."""
        run = self._run or self._candidates[0]
        return (run.conversations or run.subcalls)[0].model

    @property
    def sub_model(self) -> str:
        """The name of the run's sub-model; empty in a recording that does not say."""
        return (self._run or self._candidates[0]).sub_model

    def window(self, model: str) -> int | None:
        """Tokens that fit into a call of this model, where it said so itself."""
        talks = (talk for run in self._candidates for talk in run.conversations if talk.model == model)
        return next((talk.window for talk in talks if talk.window is not None), None)

    def answer(self, model: str, request: Request) -> Completion | Failed:
        """What was answered when `model` was asked this.

        Raises:
            DriftError: it was not.
        """
        if self._run is None:
            self._choose(model, request)
        call = self._subcall(model, request) if request.kind == "sub" else self._turn(model, request)
        if isinstance(call.outcome, Refused):
            raise self._drift(f"'{model}' is asked what a budget forbade when it was recorded", "", "")
        if call.outcome is None:
            raise AssertionError("a call under way is never written")
        return call.outcome

    def refused(self, model: str, request: Request) -> Refused | None:
        """What was said when a budget forbade this call; None if it was made, or is not known at all."""
        if self._run is None:
            self._choose(model, request)
        if request.kind == "sub":
            calls = self._subcalls.get((model, *masked(request.system, request.messages)))
            if calls and isinstance(refusal := calls[0].call.outcome, Refused):
                calls.pop(0)
                return refusal
            return None
        if (thread := following(self._threads, model, request)) is None:
            talk = next((talk for talk in self._waiting if _opens(talk, model, request)), None)
            if talk is not None and isinstance(refusal := talk.turns[0].outcome, Refused):
                self._waiting.remove(talk)
                return refusal
            return None
        turn = next(iter(thread.conversation.turns[thread.place :]), None)
        if turn is None or masked("", turn.messages) != masked("", thread.new(request)):
            return None
        if isinstance(refusal := turn.outcome, Refused):
            thread.place += 1
            return refusal
        return None

    def unused(self) -> str | None:
        """Which recorded calls were not asked for, or None."""
        if self._run is None:
            return "nothing of the recording was asked for"
        left = [
            f"turn {place + 1} of {shorten(_opening(thread.conversation))}"
            for thread in self._threads
            for place in range(thread.place, len(thread.conversation.turns))
        ]
        left += [
            f"turn {place + 1} of {shorten(_opening(talk))}"
            for talk in self._waiting
            for place in range(len(talk.turns))
        ]
        left += [
            f"{shorten(_last(sub.call))} to {sub.model}" for subcalls in self._subcalls.values() for sub in subcalls
        ]
        if not left:
            return None
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        return f"recorded but not asked for: {', '.join(left[:_SHOWN])}{more}"

    def _choose(self, model: str, request: Request) -> None:
        """Settle on the run that begins with this request, or on the first, which then shows the difference."""
        fitting = (
            run for run in self._candidates if run.conversations and _opens(run.conversations[0], model, request)
        )
        self._run = next(fitting, self._candidates[0])
        self._waiting = list(self._run.conversations)
        for sub in self._run.subcalls:
            self._subcalls[sub.model, *masked(sub.system, sub.call.messages)].append(sub)

    def _turn(self, model: str, request: Request) -> Call:
        thread = following(self._threads, model, request)
        if thread is None:
            thread = self._open(model, request)
        talk, new = thread.conversation, thread.new(request)
        place = thread.place
        if place == len(talk.turns):
            asked = rendered("", new)
            raise self._drift(
                f"turn {place + 1} of '{model}' was not recorded (the recording ends before it)", "", asked
            )
        turn = talk.turns[place]
        if masked("", turn.messages) != masked("", new):
            raise self._drift(f"turn {place + 1} of '{model}' differs", rendered("", turn.messages), rendered("", new))
        thread.took(request)
        thread.reply = turn.outcome.text if isinstance(turn.outcome, Completion) else None
        return turn

    def _open(self, model: str, request: Request) -> Thread:
        talk = next((talk for talk in self._waiting if _opens(talk, model, request)), None)
        if talk is None:
            asked = rendered(request.system, request.messages)
            if not self._waiting:
                raise self._drift(f"a conversation with '{model}' begins that was not recorded", "", asked)
            talk = self._waiting[0]
            if talk.model != model:
                raise self._drift(f"'{model}' is asked where '{talk.model}' was recorded", "", "")
            recorded = rendered(talk.system, talk.turns[0].messages)
            raise self._drift(f"turn 1 of '{model}' differs", recorded, asked)
        self._waiting.remove(talk)
        self._threads.append(Thread(talk))
        return self._threads[-1]

    def _subcall(self, model: str, request: Request) -> Call:
        key = (model, *masked(request.system, request.messages))
        if self._subcalls.get(key):
            return self._subcalls[key].pop(0).call
        asked = rendered(request.system, request.messages)
        left = [sub for subcalls in self._subcalls.values() for sub in subcalls]
        others = [sub.model for sub in left if masked(sub.system, sub.call.messages) == key[1:]]
        if others:
            raise self._drift(f"a sub-call asks '{model}' what was recorded of '{others[0]}'", "", "")
        texts = [rendered(sub.system, sub.call.messages) for sub in left if sub.model == model]
        if not texts:
            raise self._drift(f"a sub-call to '{model}' was not recorded", "", asked)
        nearest = max(texts, key=lambda text: shared(text, asked))
        raise self._drift(f"a sub-call to '{model}' was not recorded; the nearest that was", nearest, asked)

    def _drift(self, what: str, recorded: str, asked: str) -> DriftError:
        shown = f":\n{difference(recorded, asked)}\n" if recorded or asked else "; "
        return DriftError(f"{what}, says {self._file}{shown}record it again with --record {self._file}")


def raised(failure: Failed) -> ModelError:
    """The recorded failure as the error to raise."""
    if failure.type == "CancelledError":
        return ModelError("this call was cut short when it was recorded")
    if (kind := _KINDS.get(failure.type)) is not None:
        return kind(failure.message)
    return ModelError(f"{failure.type}: {failure.message}")


def _opens(talk: Conversation, model: str, request: Request) -> bool:
    recorded = masked(talk.system, talk.turns[0].messages)
    return talk.model == model and recorded == masked(request.system, request.messages)


def _opening(talk: Conversation) -> str:
    return _last(talk.turns[0])


def _last(call: Call) -> str:
    return call.messages[-1].content if call.messages else ""
