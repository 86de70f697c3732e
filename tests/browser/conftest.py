"""A browser and a Jupyter server for each file of tests, a notebook for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.browser.lab import Server, older_ipykernel
from tests.browser.page import Front, NotebookPage
from tests.browser.wire import Wire

if TYPE_CHECKING:
    from tests.browser.panel import Gates

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class Opens(Protocol):
    """The fixture `notebook`: opens one with these cells."""

    def __call__(self, cells: list[str], *, front: Front = "lab", ipykernel_version: str = "") -> NotebookPage:
        """Wait until its kernel is idle; the kernel may run another release of ipykernel."""
        ...


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program; without it, tests in a browser are skipped."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(_NAMES)} is on the PATH")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Closed with its file, since asyncio.run fails in this thread as long as it is open."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for the file, so that JupyterLab comes from the browser's cache after the first test."""
    opened = browser.new_context(viewport={"width": 1280, "height": 1000})
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose notebooks live in a folder of its own."""
    server = Server(tmp_path_factory.mktemp("lab"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def ipykernel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Fetches a release of ipykernel, once."""
    folder = tmp_path_factory.mktemp("ipykernel")
    return lambda version: older_ipykernel(version, folder)


@pytest.fixture
def notebook(context: BrowserContext, lab: Server, ipykernel: Callable[[str], Path]) -> Iterator[Opens]:
    """Opens notebooks; at the end their pages are closed and their kernels shut down."""
    pages: list[NotebookPage] = []

    def opens(cells: list[str], *, front: Front = "lab", ipykernel_version: str = "") -> NotebookPage:
        kernel = lab.add_kernel(ipykernel(ipykernel_version)) if ipykernel_version else "python3"
        pages.append(NotebookPage(context, lab, cells, front=front, kernel=kernel))
        return pages[-1]

    yield opens
    for page in pages:
        page.close()
    lab.shut_kernels_down()


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    """Places where a run of this test waits."""
    from tests.browser.panel import Gates  # here: that module sets how long its tests wait, the others keep theirs

    return Gates(tmp_path)


@pytest.fixture
def wire(browser: Browser, lab: Server) -> Iterator[Wire]:
    """A page's line to the server, which a test can cut; its kernels are shut down at the end."""
    made = Wire(browser)
    yield made
    made.close()
    lab.shut_kernels_down()
