"""One sandbox per module and level, for all that it survives."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

import pytest

from rlm_kernel.sandbox.isolation.levels import why_not
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.isolation.hostile import SMALL, TOOLS, UNBOUNDED
from tests.sandbox.lab import Lab, lab

ROOT = ("root",) if os.getuid() == 0 else ()
"""Controls that get through for root alone."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what nothing could be told from: filling a disk that is not bounded, controls that would do harm."""
    out = [item for item in items if _tells_nothing(item)]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)


def _tells_nothing(item: pytest.Item) -> bool:
    params = getattr(getattr(item, "callspec", None), "params", {})
    if "bounded" in getattr(item, "fixturenames", ()):
        return params.get("level") in UNBOUNDED
    control = getattr(params.get("cell"), "control", True)
    return params.get("level") == "none" and control not in {True, platform.machine(), *ROOT}


@pytest.fixture(scope="module", params=["full", "landlock"])
def level(request: pytest.FixtureRequest) -> str:
    """The levels that isolate, where this machine can play them."""
    wanted: str = request.param
    if missing := why_not(wanted):
        pytest.skip(missing)
    return wanted


@pytest.fixture(scope="module")
def module_sandbox(level: str) -> Iterator[Lab]:
    """The module's sandbox, with small limits."""
    with lab(KernelSandbox(level=level, limits=SMALL)) as made:
        yield made


@pytest.fixture
def small(module_sandbox: Lab) -> Lab:
    """It, running."""
    return module_sandbox.start()


@pytest.fixture
def tooled(small: Lab) -> Lab:
    """It, with means to forge."""
    assert small.run(TOOLS).status == "ok"
    return small
