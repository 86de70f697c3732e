"""`%rlm`: the notebook's sandboxes, and what can be asked about them and done with them."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument

from rlm_kernel import background
from rlm_kernel.config import Options, defaults
from rlm_kernel.errors import closest
from rlm_kernel.job import Job, limits_of, sandbox_of
from rlm_kernel.line import unquoted
from rlm_kernel.sandbox.base import MAX_FILES, ScratchFile, isolation
from rlm_kernel.session import Session

__all__ = ["FILE_OPTIONS", "WORDS", "Sandboxes", "stop", "word_arguments"]

WORDS = ("status", "vars", "files", "save", "load", "reset", "interrupt", "connect", "trajectory")
_WITH_MORE = ("files", "save", "load")
FILE_OPTIONS = ("--copy", "--force", "--to")
_MADE_TO_RUN = {".py", ".pyc", ".pth", ".so", ".sh", ".ipynb", ".pkl", ".pickle", ".joblib", ".pt"}
"""Some of the kinds of file that do something when they are imported, opened or loaded."""


def word_arguments(function: Any) -> Any:
    """The arguments of `%rlm`."""
    for decorate in (
        argument("--force", action="store_true", help="with --copy: overwrite what is there"),
        argument("--to", metavar="FOLDER", help="with --copy: where to (default: the notebook's working directory)"),
        argument("--copy", nargs="+", metavar="NAME", help="with files: copy these out of the sandbox"),
        argument("file", nargs="?", metavar="FILE", help="with save and load: the file"),
        argument("what", nargs="?", default="status", metavar="|".join(WORDS), help="what to do (default: status)"),
    ):
        function = decorate(function)
    return function


class Sandboxes:
    """One session per kind of sandbox, so that a question to another one keeps the first one's state.

    Attributes:
        current: the session that was asked last.
    """

    def __init__(self) -> None:
        self._sessions: dict[Any, Session] = {}
        self.current: Session | None = None

    def session(self, options: Options) -> Session:
        """The session of a question with these options; from now on the current one.

        Raises:
            InputError: there can be no such sandbox here.
        """
        named = options.sandbox is None or isinstance(options.sandbox, str)
        limits = limits_of(options)
        key = (options.sandbox, options.sandbox_level, options.sandbox_net, limits) if named else id(options.sandbox)
        if key not in self._sessions:
            self._sessions[key] = session = Session(sandbox_of(options))
            background.at_exit(id(session), session.reset)
        self.current = self._sessions[key]
        return self.current

    def do(self, parser: argparse.ArgumentParser, line: str) -> None:
        """Do what the line of `%rlm` says.

        Raises:
            UsageError, InputError: it cannot be done; one line says why.
        """
        what, *more = line.split(maxsplit=1) or ["status"]
        if "->" in line:
            raise UsageError(
                f"a question takes two percent signs and its text in the cell's body: %%rlm {line.strip()}"
            )
        if what not in WORDS or (more and what not in _WITH_MORE):
            raise UsageError(f"%rlm {line.strip()}: not known{closest(what, WORDS)}; there are: {', '.join(WORDS)}")
        if what in _WITH_MORE:
            getattr(self, f"_do_{what}")(parser.parse_args(unquoted(line)))
        else:
            getattr(self, f"_do_{what}")()

    def close(self) -> None:
        """End every sandbox."""
        for session in self._sessions.values():
            background.at_exit(id(session), None)
            background.call(session.reset())
        self._sessions.clear()
        self.current = None

    def _do_status(self) -> None:
        options = defaults()
        lines = [f"model {_name(options.model)}, sub-model {_name(options.sub_model)}"]
        if not self._sessions:
            lines.append("no sandbox yet: the first %%rlm starts one")
            lines.append(f"isolation {isolation(sandbox_of(options))}{options.tools.hole}")
        for session in self._sessions.values():
            title = getattr(session.sandbox, "kernelspec", type(session.sandbox).__name__) or "this Python"
            alive = getattr(session.sandbox, "alive", None)
            state = "running" if alive is None or background.call(alive()) else "not running"
            lines.append(f"sandbox ({title}): {state}")
            lines.append(f"isolation {isolation(session.sandbox)}{options.tools.hole}")
            lines += [words] if (words := getattr(session.sandbox, "network", "")) else []
        print("\n".join(lines))

    def _do_vars(self) -> None:
        print(background.call(self._asked().variables()))

    def _do_files(self, given: argparse.Namespace) -> None:
        session = self._asked()
        if given.file is not None:
            raise UsageError(f"unrecognized arguments: {given.file}; files are copied with --copy NAME…")
        if given.copy is None:
            if given.to is not None or given.force:
                raise UsageError("--to and --force say how to copy: %rlm files --copy NAME… [--to FOLDER] [--force]")
            print(_listed(background.call(session.files())))
            return
        made = background.call(session.copy_files(given.copy, given.to or ".", force=given.force))
        for path in made:
            print(f"copied {path} ({path.stat().st_size:,} bytes)")
        if any(path.suffix.lower() in _MADE_TO_RUN for path in made):
            print("The sandbox's code wrote this: look at it before you run, import, open or unpickle it.")

    def _do_save(self, given: argparse.Namespace) -> None:
        print(background.interruptible(self._asked().save(_file(given))))

    def _do_load(self, given: argparse.Namespace) -> None:
        file = _file(given)
        session = self.current or self.session(defaults())
        print(background.interruptible(session.load(file)))

    def _do_reset(self) -> None:
        for session in self._sessions.values():
            background.call(session.reset())
        print("The sandbox is empty; the next %%rlm starts a new one." if self._sessions else "There is no sandbox.")

    def _do_interrupt(self) -> None:
        session = self._asked()
        if not session.busy:
            print("Nothing is running.")
            return
        stop(session)
        background.call(session.sandbox.interrupt())
        print("Interrupted; the sandbox keeps its variables.")

    def _do_connect(self) -> None:
        file = getattr(self._asked().sandbox, "connection_file", None)
        if file is None:
            raise UsageError("the sandbox is not running or is no local kernel; run a %%rlm cell first")
        print(f"jupyter console --existing {file}")
        print("(leave it with Ctrl-D, which keeps the sandbox)")
        if importlib.util.find_spec("jupyter_console") is None:
            print("(it is not installed here: pip install jupyter_console)")

    def _do_trajectory(self) -> None:
        last = self.current.memory.last if self.current is not None else None
        if last is None:
            raise UsageError("there is no run yet; ask something with %%rlm first")
        last.show()

    def _asked(self) -> Session:
        if self.current is None:
            raise UsageError("there is no sandbox yet: the first %%rlm starts one")
        return self.current


def stop(session: Session, job: Job | None = None) -> None:
    """Have a run end, from any thread; without a job the one that goes on."""
    background.loop().call_soon_threadsafe(session.stop, job)


def _file(given: argparse.Namespace) -> str:
    if given.file is None or given.copy or given.to or given.force:
        raise UsageError(f"%rlm {given.what} takes the name of a file and nothing else")
    return str(given.file)


def _listed(found: Sequence[ScratchFile]) -> str:
    if not found:
        return "The sandbox's scratch folder is empty."
    wide = max(len(f"{file.size:,}") for file in found)
    lines = [
        f"{file.size:>{wide},}  {file.modified.astimezone():%Y-%m-%d %H:%M:%S}  {file.name}"
        + (f"  ({file.refused}: is not copied)" if file.refused else "")
        for file in found
    ]
    if len(found) >= MAX_FILES:
        lines.append(f"(there may be more than these {MAX_FILES:,})")
    return "\n".join(lines)


def _name(model: Any) -> str:
    return model if isinstance(model, str) else str(model.name)
