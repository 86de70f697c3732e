"""A field of the answer and an attribute of the result never share a name."""

from __future__ import annotations

import pytest

from rlm_kernel import Result, Signature, SignatureError

OWN = [name for name in dir(Result) if not name.startswith("_")]


@pytest.mark.parametrize("name", OWN)
def test_what_the_result_has_of_its_own_cannot_be_a_field(name: str) -> None:
    """Every public attribute of `Result` is refused as the name of an output."""
    with pytest.raises(SignatureError, match=f"'{name}'"):
        Signature.parse(f"-> {name}: str")
