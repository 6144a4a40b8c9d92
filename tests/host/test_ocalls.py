"""Ocalls on the host: which there are, and who serves them."""

from __future__ import annotations

import pytest

from kluis.enclave import Enclave
from kluis.errors import UsageError
from kluis.host import interface
from kluis.host.ocalls import Ocalls, functions_of

app = Enclave("sample")


@app.ocall
def progress(done: int) -> None:
    """Tell."""


def test_what_may_be_given() -> None:
    """A mapping, an application, an object with methods, or nothing."""

    class Served:
        def progress(self, done: int) -> None: ...

    assert functions_of(None) == {}
    assert list(functions_of({"progress": print})) == ["progress"]
    assert list(functions_of(app)) == ["progress"]
    assert list(functions_of(Served())) == ["progress"]


def test_unknown_name() -> None:
    """A function that serves no declared ocall is an error."""
    declared = interface.parse(app.interface_json())
    with pytest.raises(UsageError, match=r"^ocalls: progres: the image declares \['progress'\]$"):
        Ocalls(declared, {"progres": print})
    with pytest.raises(UsageError, match=r"^ocalls: other: "):
        Ocalls(declared, {}).give("other", print)
