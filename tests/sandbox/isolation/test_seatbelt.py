"""What a Mac would be asked, and that a kernel in which it does not hold is not used. No Mac runs any of this."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_kernel.errors import InputError, SandboxError
from rlm_kernel.sandbox.isolation import levels, seatbelt
from rlm_kernel.sandbox.isolation.levels import choose, why_not
from rlm_kernel.sandbox.isolation.policy import PROMISES
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.lab import Lab, lab


@pytest.fixture
def unlocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A sandbox that believes in its level, whose kernel is started as on a Mac but under nothing at all."""
    monkeypatch.setattr(levels, "why_not", lambda level: "")
    made = seatbelt.command
    monkeypatch.setattr(seatbelt, "command", lambda rules: made(rules)[3:])
    with lab(KernelSandbox(level="seatbelt")) as sandbox:
        yield sandbox


def test_the_rules(tmp_path: Path) -> None:
    """All is denied but what is listed; only the work folder can be written; paths are the system's own, and quoted."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    rules = seatbelt.profile(['/opt/a "b"'], tmp_path / "link", tmp_path / "sockets")

    assert rules.splitlines()[:2] == ["(version 1)", "(deny default)"]
    assert rules.count("(") == rules.count(")")
    assert r'(subpath "/opt/a \"b\"")' in rules
    (writing,) = re.findall(r"\(allow file-write\* .*", rules)
    assert writing == f'(allow file-write* (subpath "{tmp_path}/real") (literal "/dev/null"))'
    assert not re.search(r"mach-lookup|network-outbound|iokit|appleevent", rules)
    assert "/link" not in rules


def test_the_command() -> None:
    """The profile is an argument of its own, and the kernel is this Python's, without the user's environment."""
    words = seatbelt.command("(version 1)")
    assert words[:5] == ["/usr/bin/sandbox-exec", "-p", "(version 1)", sys.executable, "-I"]
    assert words[-2:] == ["-f", "{connection_file}"]


def test_not_on_this_machine() -> None:
    """Elsewhere it is refused by name, and never chosen."""
    if sys.platform == "darwin":
        pytest.skip("this is a Mac")
    assert why_not("seatbelt") == "it needs macOS with /usr/bin/sandbox-exec"
    with pytest.raises(InputError, match="'seatbelt' cannot be had here"):
        KernelSandbox(level="seatbelt")


def test_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the best that can be had, and says that nobody has tried it."""
    why_not.cache_clear()
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert choose("auto") == "seatbelt"
    assert "nobody has tried" in PROMISES["seatbelt"]
    why_not.cache_clear()


def test_one_that_does_not_hold_is_ended(unlocked: Lab) -> None:
    """What the first cell finds open is told, and the kernel is gone."""
    with pytest.raises(SandboxError, match="the level 'seatbelt' does not hold here: home can be read"):
        unlocked.start()
    assert not unlocked.sandbox.running


def test_one_that_holds(unlocked: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel runs cells, and the check leaves no name behind."""
    monkeypatch.setattr(seatbelt, "check", lambda home: "")
    unlocked.put(x=20)
    assert unlocked.run("print(x + 1, '_look' in globals())").text() == "21 False\n"
