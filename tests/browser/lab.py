"""A Jupyter server of its own for the browser tests, which shows notebooks in JupyterLab and in Notebook 7."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Literal

import nbformat
import pytest

from tests.notebook.book import ROOT, environment, within

__all__ = ["App", "Server", "Theme", "older_ipykernel"]

App = Literal["jupyterlab", "notebook"]
Theme = Literal["light", "dark"]

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0

_SETTINGS: dict[str, dict[str, Any]] = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}


def older_ipykernel(version: str, folder: Path) -> Path:
    """That release of ipykernel, alone in a folder of its own below `folder`, for `Server.add_kernel`.

    Installed once for each folder; where pip finds no registry, the test is skipped.
    """
    target = folder / f"ipykernel-{version}"
    if target.exists():
        return target
    fetching = target.with_suffix(".part")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--target", str(fetching), f"ipykernel=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    if done.returncode:
        shutil.rmtree(fetching, ignore_errors=True)
        last = (done.stderr.strip().splitlines() or ["no word from pip"])[-1]
        pytest.skip(f"pip could not fetch ipykernel {version}: {last}")
    fetching.rename(target)
    return target


class Server:
    """A running Jupyter server in `folder`; `close` it.

    Either application serves both front ends: `/lab` and, as Notebook 7, `/notebooks`.
    """

    def __init__(self, folder: Path, *, app: App = "jupyterlab", theme: Theme = "light", **environ: str) -> None:
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir(parents=True, exist_ok=True)
        self.set_theme(theme)
        for name, values in _SETTINGS.items():
            self._setting(name, values)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        options = {
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": self.notebooks,
            "ServerApp.disable_check_xsrf": True,
            "ServerApp.password": "",
            "IdentityProvider.token": "",
            "LabApp.expose_app_in_browser": True,
            "JupyterNotebookApp.expose_app_in_browser": True,
        }
        command = [sys.executable, "-m", app, "--no-browser", "--allow-root"]
        self._log = folder / "server.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                env=self._environment(environ),
                cwd=self.notebooks,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt of the tests is not the server's
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Have the kernels shut down, then end the server."""
        with contextlib.suppress(OSError):
            self.shut_kernels_down()
        with contextlib.suppress(OSError):
            self._ask("POST", "/api/shutdown")
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def set_theme(self, theme: Theme) -> None:
        """What pages look like that are loaded from now on."""
        self._setting("apputils-extension/themes", {"theme": f"JupyterLab {theme.title()}"})

    def add_kernel(self, packages: Path) -> str:
        """Offer a kernel that finds these packages first, an `older_ipykernel`; returns its name for notebooks."""
        spec = json.loads((packages / "share/jupyter/kernels/python3/kernel.json").read_text())
        spec["argv"][0] = sys.executable
        spec["env"] = {"PYTHONPATH": os.pathsep.join((str(packages), str(ROOT)))}
        spec["display_name"] = packages.name
        target = self.folder / "data" / "kernels" / packages.name
        target.mkdir(parents=True, exist_ok=True)
        (target / "kernel.json").write_text(json.dumps(spec))
        return packages.name

    def write(self, name: str, cells: list[str], *, kernel: str = "python3") -> Path:
        """Save a notebook with these code cells, not run yet."""
        book: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
        book.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        book.cells = [nbformat.v4.new_code_cell(source) for source in cells]  # type: ignore[no-untyped-call]
        path = self.notebooks / name
        nbformat.write(book, path)  # type: ignore[no-untyped-call]
        return path

    def kernels(self) -> list[dict[str, Any]]:
        """What the server says of its running kernels."""
        answer: list[dict[str, Any]] = self._ask("GET", "/api/kernels")
        return answer

    def shut_kernels_down(self) -> None:
        """End the sessions of all notebooks, and kernels without one."""
        for session in self._ask("GET", "/api/sessions"):
            self._ask("DELETE", f"/api/sessions/{session['id']}")
        for kernel in self.kernels():
            self._ask("DELETE", f"/api/kernels/{kernel['id']}")

    def log(self) -> str:
        """What the server and its kernels have written."""
        return self._log.read_text(errors="replace")

    def _setting(self, name: str, values: dict[str, Any]) -> None:
        path = self.folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        own = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        kept = {k: v for k, v in environment(self.folder).items() if not k.startswith(("JUPYTER", "JPY_"))}
        return {**kept, **{name: str(self.folder / part) for name, part in own.items()}, **more}

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS

        def answers() -> bool:
            if self._process.poll() is not None:
                return True
            with contextlib.suppress(OSError):
                return bool(self._ask("GET", "/api/status"))
            return False

        up = within(deadline - time.monotonic(), answers)
        if not up or self._process.poll() is not None:
            raise RuntimeError(f"the Jupyter server did not start:\n{self.log()[-3000:]}")

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self.url + path, method=method, data=b"{}" if method == "POST" else None)
        try:
            with urllib.request.urlopen(request, timeout=_STOP_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:  # gone in the meantime, which is what was asked for
                    return None
                raise
        return json.loads(text) if text.strip() else None
