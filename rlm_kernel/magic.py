"""`%%rlm` and `%rlm`: read the line, find the variables, ask the session, show the result.

Nothing is decided here that the Python way (`rlm.py`) would not decide the same.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display
from traitlets import Any as AnyTrait
from traitlets import Bool, Float, Int, TraitError, TraitType, Unicode
from traitlets.config import Configurable

from rlm_kernel import background, config
from rlm_kernel.complete import Completions
from rlm_kernel.config import Options, defaults
from rlm_kernel.errors import AuthenticationError, InputError, InterruptedRunError, RLMError, closest
from rlm_kernel.job import Job
from rlm_kernel.line import OPTIONS, option_arguments, parse
from rlm_kernel.manage import FILE_OPTIONS, WORDS, Sandboxes, word_arguments
from rlm_kernel.manage import stop as stop_run
from rlm_kernel.preflight import preflight
from rlm_kernel.result import Result
from rlm_kernel.signature import Signature
from rlm_kernel.trajectory import Trajectory
from rlm_kernel.view import View

__all__ = ["RLMMagics", "load", "unload"]


def _trait(option: dataclasses.Field[Any]) -> TraitType[Any, Any]:
    text = option.metadata["help"]
    kinds: dict[str, Any] = {"int": Int, "bool": Bool, "float | None": Float, "int | None": Int, "str | None": Unicode}
    kind = kinds.get(str(option.type), AnyTrait)
    extra = {"allow_none": True} if "None" in str(option.type) and kind is not AnyTrait else {}
    trait: TraitType[Any, Any] = kind(option.default, help=text, **extra).tag(config=True)
    return trait


_Traits: Any = type("_Traits", (Configurable,), {name: _trait(option) for name, option in OPTIONS.items()})


@magics_class
class RLMMagics(Magics, _Traits):  # type: ignore[misc]  # the traits are made from the options
    """Defaults of `%%rlm`; also `c.RLMMagics.<option>` in IPython's configuration and `RLM_<OPTION>` outside of it."""

    def __init__(self, shell: InteractiveShell, **kwargs: Any) -> None:
        super().__init__(shell, **kwargs)
        self._sandboxes = Sandboxes()
        own = self.config.get("RLMMagics", {})
        config.configure(**{name: getattr(self, name) for name in OPTIONS if name in own})
        self._follow(defaults())
        self.observe(self._changed, list(OPTIONS))
        config.on_configure(self._follow)

    @property
    def _notebook(self) -> dict[str, Any]:
        """The notebook's variables."""
        names: dict[str, Any] = self.shell.user_ns  # type: ignore[union-attr]  # magics always have a shell
        return names

    def _follow(self, options: Options) -> None:
        for name in OPTIONS:
            self.set_trait(name, getattr(options, name))

    def _changed(self, change: Mapping[str, Any]) -> None:
        if getattr(defaults(), change["name"]) != change["new"]:
            try:
                config.configure(**{change["name"]: change["new"]})
            except InputError as error:
                self.set_trait(change["name"], change["old"])
                raise TraitError(str(error)) from None

    # -- %%rlm ------------------------------------------------------------------------------------------------
    @no_var_expand
    @cell_magic("rlm")
    @magic_arguments("%rlm")
    @argument(
        "signature",
        nargs="*",
        help="the variables that the question is about and the fields of the answer: "
        "'tickets, policy -> answer: str, by_category: dict[str, float]'. Names alone mean '-> answer: str'; without "
        "names ('-> n: int') the question is about what the sandbox already holds. Types: str, int, float, bool, list, "
        "dict, tuple, set, Literal, datetime, DataFrame, Series, ndarray, and your own pydantic models, dataclasses "
        "and enums",
    )
    @argument("-o", "--out", metavar="NAME", default="rlm_result", help="bind the result to NAME (default: rlm_result)")
    @argument(
        "--dry-run",
        action="store_true",
        help="start nothing and ask nothing: show what the question would take and send, and bind that (a Preflight)",
    )
    @argument(
        "--continue",
        dest="continues",
        action="store_true",
        help="go on with the conversation of the last question in this sandbox ('now split it by region'): the model "
        "remembers what was said and found; without it, only the sandbox's variables are there. In Python: "
        "RLM(...).ask(question)",
    )
    @option_arguments
    def ask(self, line: str, cell: str) -> None:
        """Ask a question about notebook variables; a model answers it by writing code that runs in a sandbox kernel.

        The cell's body is the question, handed over as it stands. The model sees the variables' names, types, sizes and
        first values, and what its code prints, never the data (--direct is the exception: it puts all of them into one
        prompt). A panel shows the run as it goes on, and gives way to plain HTML when it ends. The sandbox is a kernel
        of its own that keeps its variables for the next question, and tells it in a variable `history` what was asked
        and answered before. How it is kept from your files, the network and other processes depends on this machine:
        see %rlm status.

        The result is bound in the notebook and has one attribute per field of the answer, and .trajectory, .iterations,
        .usage, .cost, .total_time and .stop_reason. A trailing ';' keeps it from being shown. Stop in the panel, or the
        interrupt button (■), ends the run at any moment; the result holds what was found so far and the sandbox keeps
        its variables.

        Example::

            %%rlm tickets, policy -> answer: str, by_category: dict[str, float]
            What is the average resolution time of critical tickets by category?
        """
        names = {**self._notebook, **_locals_of_caller()}
        with _usage_errors():
            said = parse(self.ask.parser, line, names)
            out, options = said.out, defaults().merged(said.options)
            signature = Signature.parse(said.signature, names)
            variables = _look_up(signature, names)
            question = cell.removesuffix("\n")
            silent = cell.rstrip().endswith(";")
            if said.dry_run:
                self._notebook[out] = preflight(question, signature, variables, options)
                if not silent:
                    display(self._notebook[out])
                return
            job = Job.prepare(question, signature, variables, options, continues=said.continues)
            session, story = self._sandboxes.session(options), Trajectory()

            def stop() -> None:
                stop_run(session, job)

            view = View(story, stop, quiet=options.quiet, verbose=options.verbose, silent=silent)
        try:
            with _usage_errors():
                result = background.drain(lambda emit: session.run(job, emit, story), view, stop, view.pulse)
        except (InterruptedRunError, RLMError) as error:
            if isinstance(error.result, Result):
                self._settle(out, error.result, view)
            raise
        self._settle(out, result, view)
        if result.stop_reason == "interrupted":  # Stop was clicked: the cells below must not run on, as after ■
            raise InterruptedRunError(result.detail, result)

    def _settle(self, out: str, result: Result, view: View) -> None:
        with background.undisturbed():
            self._notebook[out] = result
            view.settle(result)

    # -- %rlm -------------------------------------------------------------------------------------------------
    @line_magic("rlm")
    @magic_arguments("rlm")
    @word_arguments
    def manage(self, line: str) -> None:
        """Look after the sandbox of `%%rlm`.

        status: what runs and what it may do. vars: the sandbox's variables. files: the files that its code wrote, and
        with --copy a way to have them. save: keep its variables, the conversation and the history in a file, and tell
        what cannot be kept. load: go on from such a file, in place of what there is; load only files that you trust as
        much as the sandbox's code. reset: end the sandbox; the next question starts an empty one. interrupt: stop what
        it is running. connect: how to attach a console to it. trajectory: the last run in its panel, to step through.

        Example::

            %rlm files --copy table.csv plots/trend.png --to results
            %rlm save tickets.rlm
        """
        with _usage_errors():
            self._sandboxes.do(self.manage.parser, line)

    def close(self) -> None:
        """End every sandbox and take back the defaults' listener."""
        config.on_configure(None)
        self._sandboxes.close()


def _locals_of_caller() -> dict[str, Any]:
    """The local variables of the function that called `run_cell_magic`; IPython hands cell magics only the globals."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is InteractiveShell.run_cell_magic.__code__ and frame.f_back is not None:
            return dict(frame.f_back.f_locals)
        frame = frame.f_back
    return {}


def _look_up(signature: Signature, names: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for field in signature.inputs:
        if field.name not in names:
            known = [n for n in names if not n.startswith("_")]
            raise InputError(f"no variable is called '{field.name}'{closest(field.name, known)}")
        found[field.name] = names[field.name]
    return found


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Show an error of the user's in one line, as IPython's own magics do."""
    try:
        yield
    except (InputError, AuthenticationError) as error:
        if error.result is not None:
            raise
        # UsageError itself: IPython prints a traceback for subclasses
        raise UsageError(f"%%rlm: {error}") from None


def load(shell: InteractiveShell) -> None:
    """Register the magics and the completions; a second time replaces the first."""
    unload(shell)
    try:
        magics = RLMMagics(shell)
    except InputError as error:
        raise UsageError(f"rlm_kernel: {error}") from None
    shell.register_magics(magics)
    Completions(magics.ask.parser, WORDS, FILE_OPTIONS).install(shell)


def unload(shell: InteractiveShell) -> None:
    """Take the magics away and end their sandboxes."""
    magics = shell.magics_manager.registry.pop("RLMMagics", None)
    if isinstance(magics, RLMMagics):
        magics.close()
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop("rlm", None)
    Completions.uninstall(shell)
