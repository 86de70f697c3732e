"""What the package offers: its names, its imports, its docstrings."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import rlm_kernel
from rlm_kernel import errors


def python(text: str) -> str:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.strip()


def test_all_is_exactly_what_can_be_imported() -> None:
    """Every name of `__all__` is there, sorted out of `dir`, and nothing else is."""
    assert sorted(rlm_kernel.__all__) == dir(rlm_kernel)
    assert len(set(rlm_kernel.__all__)) == len(rlm_kernel.__all__)
    for name in rlm_kernel.__all__:
        assert getattr(rlm_kernel, name) is not None


def test_a_star_import_gives_all_of_it() -> None:
    """`from rlm_kernel import *` works and gives `__all__`."""
    names = python(
        "import json; a = set(dir()) | {'a'}; from rlm_kernel import *; print(json.dumps(sorted(set(dir()) - a)))"
    )
    assert sorted(rlm_kernel.__all__) == json.loads(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rlm_kernel.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from rlm_kernel import nothing")


def test_importing_it_is_cheap() -> None:
    """No library of weight is loaded before it is needed."""
    heavy = [
        "jupyter_client",
        "zmq",
        "anthropic",
        "openai",
        "pydantic",
        "IPython",
        "pandas",
        "numpy",
        "pyarrow",
        "asyncio",
    ]
    assert python(f"import sys, rlm_kernel; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_the_python_way_needs_no_notebook() -> None:
    """`RLM` and its options load no provider's SDK and no IPython."""
    heavy = ["anthropic", "openai", "IPython", "pandas", "numpy"]
    assert (
        python(
            "import sys; from rlm_kernel import RLM, configure; RLM('x -> y: int'); "
            f"print([m for m in {heavy} if m in sys.modules])"
        )
        == "[]"
    )


def test_everything_public_is_explained() -> None:
    """Every class and function has a docstring, and so has every public method and property of them."""
    silent = []
    for name in rlm_kernel.__all__:
        value = getattr(rlm_kernel, name)
        if not inspect.getdoc(value):
            silent.append(name)
        if inspect.isclass(value) and value.__module__.startswith("rlm_kernel"):
            silent += [
                f"{name}.{member}"
                for member, what in vars(value).items()
                if not member.startswith("_")
                and (inspect.isfunction(what) or isinstance(what, property))
                and not inspect.getdoc(getattr(value, member) if inspect.isfunction(what) else what)
            ]
    assert silent == []


def test_every_error_has_one_base() -> None:
    """`except RLMError` catches whatever the package raises, but for the user's own interrupt."""
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, errors.RLMError) != issubclass(error, KeyboardInterrupt)


def test_errors_show_as_one_line_in_a_notebook() -> None:
    """IPython prints the name and the message, without our frames."""
    assert errors.ModelError("overloaded")._render_traceback_() == ["ModelError: overloaded"]
    assert errors.InterruptedRunError("stopped")._render_traceback_() == ["KeyboardInterrupt: stopped"]


def test_the_package_is_typed() -> None:
    """It says that it has annotations, so that type checkers of its users read them."""
    from importlib.resources import files

    assert (files("rlm_kernel") / "py.typed").is_file()
