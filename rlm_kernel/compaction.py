"""Keeps a run's conversation within the window of its model: when it is nearly full, older turns become a summary.

That is rare and large, since the provider's cache of everything behind the first message is lost by it. What is lost
to the model is in a variable of the REPL, and to the user in the trajectory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from rlm_kernel import events as ev
from rlm_kernel import prompt
from rlm_kernel.asking import Answer, ask
from rlm_kernel.budget import Estimate, Ledger, OverdrawnError
from rlm_kernel.cells import Cells
from rlm_kernel.conversation import Conversation
from rlm_kernel.errors import AuthenticationError, ModelError, PromptTooLongError
from rlm_kernel.granting import grant
from rlm_kernel.guard import Guard, settle
from rlm_kernel.history import History
from rlm_kernel.models.base import Message, Model, Request
from rlm_kernel.models.prices import window
from rlm_kernel.usage import Usage

__all__ = ["Compactor"]

UNKNOWN_WINDOW = 100_000
"""Tokens of a model that nobody knows."""
LEAST_TURNS = 2
WORTH = 0.1
"""As many turns, and such a share of the window, have to give way, or it is not worth it."""
SUMMARY_TOKENS = 4_000
"""Of the summary, at most, where tokens are limited."""
_CHARS_PER_TOKEN = 3


class Compactor:
    """Makes room in one run's conversation.

    Args:
        model: whose window it is; it writes the summaries.
        ledger: of the run.
        guard: what may end the run meanwhile.
        cells: of the run.
        history: knows what the variable with the turns may be called.
        emit: gets the event, without run and time.
    """

    def __init__(
        self,
        model: Model,
        ledger: Ledger,
        guard: Guard,
        cells: Cells,
        history: History,
        emit: Callable[..., None],
    ) -> None:
        self._model, self._ledger, self._guard = model, ledger, guard
        self._cells, self._history, self._emit = cells, history, emit
        self._window: int | None = None

    @property
    def window(self) -> int:
        """Tokens that fit into a call: as the model says, as the price list knows, or few."""
        if self._window is None:  # only now: loading the list takes a tenth of a second
            self._window = getattr(self._model, "window", None) or window(self._model.name) or UNKNOWN_WINDOW
        return self._window

    def due(self, talk: Conversation) -> bool:
        """Whether the next call would fill the window too far, and older turns are what fills it."""
        share = self._ledger.options.compact_at
        if share is None or len(older := talk.older) < LEAST_TURNS:
            return False
        chars = sum(len(reply) + len(told) for _, reply, told in older)
        return talk.tokens >= share * self.window and chars // _CHARS_PER_TOKEN >= WORTH * self.window

    async def compacted(
        self,
        number: int,
        talk: Conversation,
        then: Callable[[int], Estimate],
        refused: PromptTooLongError | None = None,
    ) -> Conversation:
        """The conversation with a summary in place of its older turns. `talk` itself stays as it is.

        Args:
            number: of the iteration that needs the room.
            talk: the conversation.
            then: what has to be left after a call that took so many tokens.
            refused: what the provider said to the next call.

        Raises:
            EndError: the run was stopped, or its time is over.
            RLMError: the sandbox failed, or there is nothing that could give way: then it is `refused`.
        """
        older, before = talk.older, talk.tokens
        if refused is not None:
            self._window = min(self.window, talk.known[1] or before // 2)  # as much as was taken before
            if not older:
                raise refused
        answer, why = await self._summary(talk, then, whole=refused is None)
        summary = answer.completion.text.strip() if answer is not None and not why else prompt.excerpts(older)
        name = self._history.name("transcript")
        ours = (name, self._history.name("history"))
        lines = (await self._cells.look()).splitlines()
        variables = "\n".join(line for line in lines if line.partition(" ")[0] not in ours)
        transcript = talk.transcript + prompt.transcript(older)
        await self._cells.keep({name: transcript})
        first, last = older[0][0], older[-1][0]
        notice = prompt.summary_notice(name, variables, talk.asked if talk.question_is_older else "")
        made = talk.compacted(prompt.summary_message(last, summary), notice, transcript)
        self._emit(
            ev.Compacted,
            iteration=number,
            turns=(first, last),
            summary=summary,
            why=why,
            tokens=(before, made.tokens),
            usage=answer.completion.usage if answer is not None else Usage(),
            cost=answer.cost if answer is not None else None,
            seconds=answer.seconds if answer is not None else 0.0,
        )
        return made

    async def _summary(
        self, talk: Conversation, then: Callable[[int], Estimate], *, whole: bool
    ) -> tuple[Answer | None, str]:
        """The reply to the call for a summary, if it was made, and why there is no summary, if there is none."""
        request = self._call(talk, whole=whole)
        try:
            granted = await grant(
                self._model, request, self._ledger, known=talk.known if whole else (0, 0), then=then, last=True
            )
            asking = asyncio.ensure_future(ask(self._model, request, self._ledger, granted=granted))
            try:
                answer = await self._guard.result(asking)
            finally:
                await settle(asking)
        except OverdrawnError as short:
            return None, str(short)
        except AuthenticationError:
            raise
        except PromptTooLongError as error:
            if whole:
                return await self._summary(talk, then, whole=False)
            return None, f"the call for a summary failed: {error}"
        except ModelError as error:
            return None, f"the call for a summary failed: {error}"
        written = answer.completion.stop_reason != "refusal" and answer.completion.text.strip()
        return answer, "" if written else "the model wrote none"

    def _call(self, talk: Conversation, *, whole: bool) -> Request:
        """The call for a summary: of the conversation as it is, whose beginning is cached, or of what fits in half."""
        asked = f"{talk.unsent}\n\n{prompt.summary_call()}"
        messages = (*talk.messages, Message("user", asked))
        if not whole:
            chars = sum(len(message.content) for message in messages)
            messages = prompt.shortened(messages, chars // 2)
        request = Request(messages, talk.system)
        return replace(request, max_tokens=SUMMARY_TOKENS) if self._ledger.limited else request
