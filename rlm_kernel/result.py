"""What a run hands back: the answer by field, and the whole story behind it.

A `Result` is a view of a finished `Trajectory`; it computes nothing and asks for nothing, so it can be pickled, copied
and made again from a loaded trajectory.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rlm_kernel.errors import closest
from rlm_kernel.render import story
from rlm_kernel.render.html import answer_html, to_html
from rlm_kernel.render.markdown import answer_markdown, to_markdown
from rlm_kernel.render.text import answer_text, to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rlm_kernel.trajectory import Iteration, Trajectory
    from rlm_kernel.usage import Usage

__all__ = ["Answer", "Result", "Shown"]


class Shown:
    """Shows itself in three forms; the subclasses say which."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        made = {"text/html": self._html, "text/markdown": self._markdown, "text/plain": self.__repr__}
        return {
            kind: make()
            for kind, make in made.items()
            if (not include or kind in include) and (not exclude or kind not in exclude)
        }

    def _html(self) -> str:
        raise NotImplementedError

    def _markdown(self) -> str:
        raise NotImplementedError


class _Story(Shown):
    """Shows a trajectory."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory = trajectory


class Answer(_Story):
    """The answer fields of a run alone, for display."""

    def __repr__(self) -> str:
        return answer_text(self._trajectory)

    def _html(self) -> str:
        return answer_html(self._trajectory)

    def _markdown(self) -> str:
        return answer_markdown(self._trajectory)


class Result(_Story):
    """The outcome of a run: `result.answer` and every other output field as attributes.

    A field that was not answered, because a limit ended the run first, is None. A field that shares its name with an
    attribute below is found in `values`.
    """

    @property
    def values(self) -> Mapping[str, Any]:
        """Every output field by name, in the order of the signature; read-only."""
        answered = self._trajectory.values
        return MappingProxyType({name: answered.get(name) for name in story.fields(self._trajectory)})

    @property
    def trajectory(self) -> Trajectory:
        """The whole run as a tree."""
        return self._trajectory

    @property
    def iterations(self) -> list[Iteration]:
        """The iterations of the run, in order."""
        return self._trajectory.iterations

    @property
    def usage(self) -> Usage:
        """Tokens of the whole run, sub-calls and child runs included."""
        return story.usage_of(self._trajectory)

    @property
    def cost(self) -> float | None:
        """USD; None when a price is not known."""
        return self._trajectory.cost

    @property
    def total_time(self) -> float:
        """Seconds from the first event to the last."""
        return self._trajectory.seconds

    @property
    def stop_reason(self) -> str:
        """`answered`, or which limit or trouble ended the run."""
        return self._trajectory.stop_reason

    @property
    def detail(self) -> str:
        """One line for people about the end of the run; empty when it simply answered."""
        return self._trajectory.detail

    def answer_only(self) -> Answer:
        """The answer fields alone, for display."""
        return Answer(self._trajectory)

    def __getattr__(self, name: str) -> Any:
        # Protocols (pickle, copy, IPython) ask for names with an underscore, some of them before there is a trajectory.
        if name.startswith("_") or "_trajectory" not in self.__dict__:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        values = self.values
        if name in values:
            return values[name]
        known = ", ".join(values) or "none"
        raise AttributeError(f"this result has no field '{name}'{closest(name, list(values))}; its fields: {known}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in self.values if not name.startswith("_"))})

    def __repr__(self) -> str:
        return to_text(self._trajectory)

    def _html(self) -> str:
        return to_html(self._trajectory)

    def _markdown(self) -> str:
        return to_markdown(self._trajectory)
