"""The checks that hold for every file, run as tests so that one command passes or fails a change."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP_LEVEL = {
    "pyproject.toml",
    "rlm_kernel",
    "notebooks",
    "tests",
    "binder",
    "README.md",
    "LICENSE",
}


def tracked() -> list[Path]:
    """The files of the repository; of the folder, where git is not there."""
    git = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if git.returncode:
        return [p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return [Path(line) for line in git.stdout.splitlines() if (ROOT / line).exists()]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "rlm_kernel", "tests", "notebooks"],
        ["ruff", "format", "--check", "rlm_kernel", "tests", "notebooks"],
        ["mypy"],
        ["lint-imports"],
    ],
    ids=" ".join,
)
def test_a_checker_finds_nothing(command: list[str]) -> None:
    """ruff, mypy --strict and import-linter are clean."""
    program = shutil.which(command[0], path=str(Path(sys.executable).parent)) or command[0]
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_top_level_holds_what_was_agreed() -> None:
    """Nothing but the agreed names and tool dot-files lies at the top."""
    assert {p.parts[0] for p in tracked() if not p.parts[0].startswith(".")} <= TOP_LEVEL


def test_a_file_can_be_read_in_one_sitting() -> None:
    """No file of the package has more than 300 lines, unless its head says why."""
    long = {
        str(path): lines
        for path in tracked()
        if path.suffix in {".py", ".js", ".css"} and path.parts[0] == "rlm_kernel"
        if (lines := len((text := (ROOT / path).read_text()).splitlines())) > 300 and "Longer than" not in text[:1500]
    }
    assert long == {}


def test_every_ignore_says_why() -> None:
    """A `noqa` or `type: ignore` in the package names its rule and its reason."""
    bare = [
        f"{path}:{number}: {line.strip()}"
        for path in tracked()
        if path.suffix == ".py" and path.parts[0] == "rlm_kernel"
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if re.search(r"#\s*(noqa|type: ignore)", line)
        and not re.search(r"#\s*noqa: [A-Z]+\d+(, [A-Z]+\d+)*\s+-+ \S|#\s*type: ignore\[[\w, -]+\]\s+# \S", line)
    ]
    assert bare == []


def test_the_readme_shows_code_that_runs() -> None:
    """The README's example without a model does what it says."""
    blocks = re.findall(r"```python\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    runnable = [b for b in blocks if "FakeSandbox" in b]
    assert len(runnable) == 1
    exec(compile(runnable[0], "README.md", "exec"), {})


def test_the_readme_names_every_word_of_the_magic() -> None:
    """What `%rlm` can do stands in the README."""
    from rlm_kernel.manage import WORDS

    assert " \\| ".join(WORDS) in (ROOT / "README.md").read_text()
