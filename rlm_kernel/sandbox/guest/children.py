"""`rlm_query` and `rlm_batch`: sub-problems that are solved by runs of their own, given variables of this REPL by name.

Where no run is possible below this one they become plain sub-calls, with the variables as text in the prompt.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import wire
from .sealing import seal

_PLAIN_CHARS = 400_000
"""Of variables, in the prompt of a plain sub-call."""
_FENCED = re.compile(r"\A\s*```\w*\n(.*)\n```\s*\Z", re.DOTALL)


class Children:
    """The two functions of the REPL.

    Args:
        namespace: of the code.
        ask: has the host do something; raises `failure`.
        batch: asks plain sub-calls.
        failure: the error of a sub-call that failed.
        folder: where the children put files, if they have the disk of this process.
    """

    def __init__(
        self,
        namespace: Mapping[str, Any],
        ask: Callable[..., Any],
        batch: Callable[..., list[Any]],
        failure: type[Exception],
        folder: str | None,
    ) -> None:
        self._namespace, self._ask, self._batch, self._failure = namespace, ask, batch, failure
        self._folder, self._going, self._lock = folder, 0, threading.Lock()

    def rlm_query(self, prompt: str, *, model: str | None = None, outputs: str | None = None, **variables: Any) -> Any:
        """Have a sub-problem solved by a run of its own, with a REPL of its own, and wait for its answer.

        Args:
            prompt: the question.
            model: who writes its code; the sub-model unless another one is named.
            outputs: the fields of the answer, as `"total: float"`; one text without.
            **variables: what its REPL holds.

        Returns:
            The value of the only field, or a dict of several.

        Raises:
            SubcallError: it could not be started or ended without an answer; the text says why.
        """
        if not isinstance(prompt, str):
            raise TypeError(f"rlm_query takes the prompt as str, not {type(prompt).__name__}")
        answer = self._answers([(prompt, variables)], {}, model, outputs, "rlm_query")[0]
        if isinstance(answer, self._failure):
            raise answer
        return answer

    def rlm_batch(
        self,
        prompts: Iterable[str | Mapping[str, Any]],
        *,
        model: str | None = None,
        outputs: str | None = None,
        **variables: Any,
    ) -> list[Any]:
        """Have many sub-problems solved at once; the answers come in the order of the prompts.

        Args:
            prompts: texts, or dicts with "prompt" and the variables of that run alone.
            model: as for `rlm_query`.
            outputs: as for `rlm_query`.
            **variables: what the REPL of every run holds.

        Returns:
            As `rlm_query` for each; a `SubcallError` object stands where a run failed.

        Raises:
            SubcallError: every run failed.
        """
        wanted = []
        for given in [prompts] if isinstance(prompts, str | Mapping) else prompts:
            item = {"prompt": given} if isinstance(given, str) else given
            if not isinstance(item, Mapping) or not isinstance(item.get("prompt"), str):
                raise TypeError('rlm_batch takes texts, or dicts with "prompt" (a text) and the variables of that run')
            wanted.append((item["prompt"], {name: value for name, value in item.items() if name != "prompt"}))
        if not wanted:
            return []
        answers = self._answers(wanted, variables, model, outputs, "rlm_batch")
        failed = [i for i, answer in enumerate(answers) if isinstance(answer, self._failure)]
        if len(failed) == len(answers):
            raise self._failure(f"all {len(answers)} runs failed, the first with: {answers[0]}")
        if failed:
            where = ", ".join(map(str, failed[:10])) + (", …" if len(failed) > 10 else "")
            print(
                f"rlm_batch: {len(failed)} of {len(answers)} runs failed (a SubcallError stands at index {where})",
                file=sys.stderr,
            )
        return answers

    def _answers(
        self, wanted: list[tuple[str, dict[str, Any]]], shared: dict[str, Any], model: Any, outputs: Any, method: str
    ) -> list[Any]:
        def sealed(variables: Mapping[str, Any]) -> dict[str, Any]:
            return {name: seal(name, value, self._namespace) for name, value in variables.items()}

        calls = [{"prompt": prompt, "variables": sealed(own)} for prompt, own in wanted]
        request = {"calls": calls, "shared": sealed(shared), "model": model, "outputs": outputs}
        with self._lock:
            self._going += 1
        try:
            replies = self._ask(method, **request)
        finally:
            self._clear()
        if replies is None:  # no run is possible below this one
            prompts = [_as_text(prompt, {**shared, **own}, outputs, self._failure) for prompt, own in wanted]
            return [self._read(text, outputs) for text in self._batch(prompts, model)]
        return [self._answer(reply) for reply in replies]

    def _clear(self) -> None:
        """Remove what children wrote, once none goes on."""
        with self._lock:
            self._going -= 1
            if self._folder is not None and not self._going:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _answer(self, reply: Mapping[str, Any]) -> Any:
        if "error" in reply:
            return self._failure(reply["error"])
        if note := reply.get("note"):
            print(note, file=sys.stderr)
        return wire.decode(reply["value"])

    def _read(self, text: Any, outputs: str | None) -> Any:
        """The reply of a plain sub-call as an answer."""
        if outputs is None or isinstance(text, self._failure):
            return text
        try:
            found = json.loads(fenced[1] if (fenced := _FENCED.match(text)) else text)
        except ValueError:
            return self._failure(f"the sub-model did not reply with JSON but with: {text[:200]}")
        return next(iter(found.values())) if isinstance(found, dict) and len(found) == 1 else found


def _as_text(prompt: str, variables: Mapping[str, Any], outputs: str | None, failure: type[Exception]) -> str:
    """A sub-problem as the prompt of a plain sub-call."""
    parts = [prompt]
    parts += [f"<{name}>\n{value}\n</{name}>" for name, value in variables.items()]
    if (size := sum(map(len, parts[1:]))) > _PLAIN_CHARS:
        raise failure(
            f"no run is possible below this one, and {size:,} characters of variables are too many for the prompt of a "
            "plain sub-call: pass less, or use llm_batch on slices"
        )
    if outputs is not None:
        parts.append(f"Reply with JSON alone: an object with exactly these fields: {outputs}")
    return "\n\n".join(parts)
