"""One sandbox per module and level, for all that it survives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlm_kernel.sandbox.isolation.levels import why_not
from rlm_kernel.sandbox.kernel import KernelSandbox
from tests.sandbox.isolation.hostile import SMALL, TOOLS
from tests.sandbox.lab import Lab, lab


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
