"""One kernel per module, for tests that leave no state that matters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox.lab import Lab, echo, lab


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    """The module's kernel."""
    with lab() as made:
        yield made.start()


@pytest.fixture
def kernel(shared: Lab) -> Lab:
    """The module's kernel, running and answering with `echo`."""
    shared.answer = echo
    shared.asked.clear()
    return shared.start()


@pytest.fixture
def fresh() -> Iterator[Lab]:
    """A sandbox of the test's own, not yet started."""
    with lab() as made:
        yield made
