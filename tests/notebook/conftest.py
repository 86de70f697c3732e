"""One notebook kernel for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.book import Book


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Book]:
    """A kernel with the extension loaded and `script` defined."""
    opened = Book(tmp_path_factory.mktemp("book"))
    yield opened
    opened.close()


@pytest.fixture
def book(shared: Book) -> Book:
    """The shared kernel with the options' defaults back."""
    shared.ok("import dataclasses\nconfigure(**{f.name: f.default for f in dataclasses.fields(rlm_kernel.Options)})")
    return shared


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that code creates to say that it has come this far."""
    return tmp_path / "reached"
