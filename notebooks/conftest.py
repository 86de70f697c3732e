"""The notebooks are tests. For notebooks of yours `-p rlm_kernel.nbval` on pytest's command line does the same."""

from rlm_kernel.nbval import pytest_runtest_protocol

__all__ = ["pytest_runtest_protocol"]
