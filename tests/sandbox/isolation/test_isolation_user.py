"""The hostile suite once more as an ordinary user, where the tests themselves run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.sandbox.isolation.levels import why_not

UID = 64_999
ROOT = Path(__file__).parents[3]
PROBE = """
import zmq, ipykernel, psutil
from rlm_kernel.sandbox.isolation.levels import why_not
print([*map(why_not, ("full", "landlock"))])
"""


def linked(source: str, target: str) -> None:
    """A hard link, or a copy on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def own(place: Path, file: Path) -> None:
    """Give the user all folders and one file, as if it had installed Python; the other files are links."""
    copy = file.read_bytes()
    file.unlink()
    file.write_bytes(copy)
    os.chown(file, UID, UID)
    for folder, _, _ in os.walk(place):
        os.chown(folder, UID, UID)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A Python with all packages, the package and its tests where every user may read them, and a home."""
    if os.getuid() != 0:
        pytest.skip("the whole suite runs as an ordinary user")
    if all(map(why_not, ("full", "landlock"))):
        pytest.skip("nothing can be had here")
    Path(tempfile.gettempdir()).chmod(0o711)
    made = Path(tempfile.mkdtemp(prefix="u-"))
    made.chmod(0o755)
    version = f"python{sysconfig.get_python_version()}"
    for name in ("bin", "lib"):
        tree = Path(sys.base_prefix, name) if name == "bin" else Path(sys.base_prefix, name, version)
        target = made / "base" / tree.relative_to(sys.base_prefix)
        shutil.copytree(
            tree, target, copy_function=linked, ignore=shutil.ignore_patterns("site-packages", "test"), symlinks=True
        )
    packages = made / "venv" / "lib" / version / "site-packages"
    shutil.copytree(sysconfig.get_path("purelib"), packages, copy_function=linked, symlinks=True)
    (made / "venv/bin").mkdir()
    (made / "venv/bin/python").symlink_to(made / "base/bin" / version)
    (made / "venv/pyvenv.cfg").write_text(f"home = {made}/base/bin\ninclude-system-site-packages = false\n")
    for name in ("rlm_kernel", "tests"):
        shutil.copytree(ROOT / name, made / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", made / "code")
    for name in ("home", "t"):
        (made / name).mkdir()
    own(made, made / "base/lib" / version / "os.py")
    yield made
    shutil.rmtree(made)
    Path(tempfile.gettempdir()).chmod(0o700)


def as_user(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    home, temporary, code = (str(place / name) for name in ("home", "t", "code"))
    environment = {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": temporary, "PYTHONPATH": code}
    return subprocess.run(
        [str(place / "venv/bin/python"), *words],
        cwd=place / "code",
        env=environment,
        user=UID,
        group=UID,
        extra_groups=[],
        capture_output=True,
        text=True,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name",
    [
        "test_hostile_cells.py",
        "test_hostile_resources.py",
        "test_isolation_levels.py",
        "test_network.py",
        "test_files_inside.py",
    ],
)
def test_as_an_ordinary_user(name: str, place: Path) -> None:
    """Every level that such a user can play holds as well, and the controls get through."""
    probe = as_user(place, "-c", PROBE)
    if probe.returncode:
        pytest.skip(f"this Python does not run where another user could read it: {probe.stderr[-200:]}")
    assert "''" in probe.stdout
    done = as_user(
        place,
        "-m",
        "pytest",
        f"tests/sandbox/isolation/{name}",
        "-q",
        "--tb=short",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
