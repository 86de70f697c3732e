"""Binder: what it would build, and what its last step leaves, tried without it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.notebook.book import ROOT

BINDER = ROOT / "binder"


def run(*command: str | Path) -> str:
    """What a program says; it has to end well."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return str(done.stdout + done.stderr)


def test_it_knows_what_to_build() -> None:
    """Python comes from environment.yml, this package from postBuild, in an image of which nothing is built here."""
    said = run(Path(sys.executable).with_name("jupyter-repo2docker"), "--no-build", "--debug", ROOT)
    assert "RUN ./binder/postBuild" in said
    assert "environment.yml" in said
    assert os.access(BINDER / "postBuild", os.X_OK)


def test_the_badge_opens_a_notebook_that_is_there() -> None:
    """In JupyterLab."""
    found = re.search(r"mybinder\.org/v2/gh/[\w./-]+\?urlpath=lab/tree/(\S+?\.ipynb)", (ROOT / "README.md").read_text())
    assert found is not None
    assert (ROOT / found[1]).exists()


def test_its_last_step_is_tried_by_every_check() -> None:
    """In a fresh environment, before the tests, which run every notebook there."""
    said = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert said.index("python3 -m venv") < said.index("binder/postBuild") < said.index("pytest")
