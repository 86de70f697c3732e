"""The rig itself: both front ends, other releases of ipykernel, and nothing left running."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tests.browser.conftest import Opens
from tests.browser.lab import Server
from tests.browser.page import Front

VERSION = "import ipykernel; ipykernel.__version__"


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_a_cell_runs(notebook: Opens, front: Front) -> None:
    """Its result is in the page and, once saved, in the file; the kernel has the ipykernel of this environment."""
    page = notebook(["1+1", VERSION], front=front)
    page.run(0)
    page.run(1)
    page.wait_idle()
    assert page.output(0).all_inner_texts() == ["2"]
    assert page.output(1).all_inner_texts() == [repr(version("ipykernel"))]
    assert page.prompt(0) == "[1]:"
    page.save()
    assert page.saved_outputs(0)[0]["data"] == {"text/plain": "2"}
    assert page.errors == []


@pytest.mark.parametrize("wanted", ["7.3.0", "7.2.0"])
@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_an_older_ipykernel(notebook: Opens, front: Front, wanted: str) -> None:
    """The notebook's kernel is of that release, and this project is found."""
    page = notebook([VERSION, "import rlm_kernel; rlm_kernel.__name__"], front=front, ipykernel_version=wanted)
    page.run(0)
    page.run(1)
    page.wait_idle()
    assert page.output(0).all_inner_texts() == [repr(wanted)]
    assert page.output(1).all_inner_texts() == ["'rlm_kernel'"]
    assert page.errors == []


@pytest.mark.parametrize("front", ["lab", "notebook"])
def test_reload_and_restart(notebook: Opens, front: Front) -> None:
    """A reload keeps the kernel and what was saved; a restart keeps the outputs and loses the variables."""
    page = notebook(["x = 5; x", "x"], front=front)
    page.run(0)
    page.wait_idle()
    page.save()
    page.reload()
    page.wait_idle()
    assert page.output(0).all_inner_texts() == ["5"]
    page.run(1)
    page.wait_idle()
    assert page.output(1).all_inner_texts() == ["5"]
    page.restart_kernel()
    assert page.output(1).all_inner_texts() == ["5"]
    page.run(1)
    page.wait_idle()
    assert "NameError" in page.output(1).inner_text()


def test_a_running_cell(notebook: Opens) -> None:
    """`run` does not wait for the cell, and ■ ends it."""
    page = notebook(["import time\nprint('begun')\ntime.sleep(60)"])
    page.run(0)
    page.output(0).get_by_text("begun").wait_for()
    assert page.prompt(0) == "[*]:"
    page.interrupt()
    page.wait_idle(20)
    assert "KeyboardInterrupt" in page.output(0).last.inner_text()


def test_the_themes(notebook: Opens, lab: Server) -> None:
    """A page takes the theme that is set when it is loaded."""
    page = notebook(["1"])
    assert page.page.locator("body").get_attribute("data-jp-theme-light") == "true"
    try:
        lab.set_theme("dark")
        page.reload()
        page.page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
    finally:
        lab.set_theme("light")


def test_kernels_end_with_the_test(lab: Server) -> None:
    """What the tests before this one opened is shut down."""
    assert lab.kernels() == []
