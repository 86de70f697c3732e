"""A notebook's kernel, driven cell by cell over its own protocol; outputs are folded as a front end folds them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

__all__ = ["Book", "Ran", "environment", "within"]

ROOT = Path(__file__).parents[2]

SETUP = '''
%load_ext rlm_kernel
import json, rlm_kernel
from rlm_kernel import ScriptedModel, configure
def script(*replies, sub=None, **more):
    """Have these replies given; a text is code."""
    global model
    written = [f"```repl\\n{r}\\n```" if isinstance(r, str) else r for r in replies]
    model = ScriptedModel(written, sub=sub, **more)
    configure(model=model, sub_model=model)
'''


def environment(folder: Path, **more: str) -> dict[str, str]:
    """This process's environment without keys and options, and with an IPython folder of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RLM_", "ANTHROPIC_", "OPENAI_"))}
    return {**kept, "IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": str(ROOT), **more}


def within(seconds: float, what: Callable[[], bool]) -> bool:
    """Whether it becomes true in that time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@dataclass
class Ran:
    """What a cell did."""

    status: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """As in a saved notebook, `update_display_data` applied."""
    reply: dict[str, Any] = field(default_factory=dict)

    def stream(self, name: str) -> str:
        """What was written to stdout or stderr."""
        return "".join(o["text"] for o in self.outputs if o["type"] == "stream" and o["name"] == name)

    @property
    def bundles(self) -> list[dict[str, Any]]:
        """The displays and results."""
        return [o["data"] for o in self.outputs if "data" in o]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The tracebacks that were shown."""
        return [o for o in self.outputs if o["type"] == "error"]

    @property
    def usage_error(self) -> str:
        """The one line on stderr, with nothing else shown."""
        assert self.status == "error"
        assert self.bundles == []
        assert self.errors == []
        text = self.stream("stderr")
        assert len(text.strip().splitlines()) == 1, text
        assert "Traceback" not in text
        return text.strip()


class Book:
    """A running kernel; `close` it."""

    def __init__(self, folder: Path, *, setup: str = SETUP, **environ: str) -> None:
        self.manager = KernelManager(kernel_name="python3")
        folder.mkdir(parents=True, exist_ok=True)
        self.manager.start_kernel(env=environment(folder, **environ), cwd=str(folder))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        if setup:
            ran = self.run(setup)
            assert ran.status == "ok", ran

    def close(self) -> None:
        """End the kernel as a server does: ask, then kill."""
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel()

    def interrupt_when(self, marker: Path) -> None:
        """Press ■ as soon as the file is there."""

        def press() -> None:
            if within(30, marker.exists):  # what a server does: the whole process group
                provisioner: Any = self.manager.provisioner
                os.killpg(provisioner.pgid, signal.SIGINT)

        threading.Thread(target=press, daemon=True).start()

    def run(self, code: str, seconds: float = 60) -> Ran:
        """Run a cell to its end."""
        asked = self.client.execute(code, allow_stdin=False)
        ran, shown = Ran(), {}
        end = time.monotonic() + seconds
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, end - time.monotonic()))
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            ident = content.get("transient", {}).get("display_id")
            if kind == "update_display_data":
                for output in shown.get(ident, []):
                    output["data"], output["metadata"] = content["data"], content["metadata"]
            elif kind in ("stream", "display_data", "execute_result", "error"):
                ran.outputs.append({"type": kind, **content})
                if ident:
                    shown.setdefault(ident, []).append(ran.outputs[-1])
        while True:
            reply = self.client.get_shell_msg(timeout=max(0.1, end - time.monotonic()))
            if reply["parent_header"].get("msg_id") == asked:
                ran.reply, ran.status = reply["content"], reply["content"]["status"]
                return ran

    def ok(self, code: str) -> Ran:
        """Run a cell that has to succeed."""
        ran = self.run(code)
        assert ran.status == "ok", ran.outputs
        return ran

    def value(self, expression: str) -> Any:
        """The value of an expression that JSON can hold."""
        return json.loads(self.ok(f"print(json.dumps({expression}))").stream("stdout"))

    def complete(self, code: str) -> list[str]:
        """What Tab offers at the end of this text, as the whole text would then read."""
        reply = self.client.complete(code, reply=True, timeout=30)["content"]
        return [code[: reply["cursor_start"]] + m + code[reply["cursor_end"] :] for m in reply["matches"]]
