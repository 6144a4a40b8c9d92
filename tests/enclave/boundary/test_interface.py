"""The interface document: the same for the same hints, and changed by whatever matters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from kluis.enclave import Enclave, Table
from kluis.enclave.boundary.interface import encode
from kluis.formats.encoding import jcs


def made(svn: int = 1, most: int = 10, default: float = 0.5) -> Enclave:
    app = Enclave("subject", product_id=7, svn=svn)

    def f(text: str, table: Table, share: float = default) -> dict[str, int]:
        """Count.

        At length.
        """
        return {}

    f.__annotations__["text"] = Annotated[str, msgspec.Meta(max_length=most)]
    app.ecall(raises=(ValueError,))(f)
    return app


def test_says_what_crosses() -> None:
    """It has each parameter's type, bounds and default, and the first line of the docstring."""
    assert made().interface() == {
        "format": "kluis-interface/1",
        "name": "subject",
        "product_id": 7,
        "svn": 1,
        "max_message_bytes": 256 << 20,
        "max_table_bytes": 16 << 30,
        "ecalls": [
            {
                "name": "f",
                "doc": "Count.",
                "parameters": [
                    {"name": "text", "type": {"kind": "str", "max_length": 10}},
                    {"name": "table", "type": {"kind": "table"}},
                    {"name": "share", "type": {"kind": "float"}, "default": {"float": "0.5"}},
                ],
                "returns": {"kind": "dict", "keys": {"kind": "str"}, "values": {"kind": "int"}},
                "raises": ["ValueError"],
            }
        ],
        "ocalls": [],
        "types": {},
    }


def test_canonical() -> None:
    """Its bytes are canonical JSON, and no set or dictionary order shows in them."""
    data = made().interface_json()
    assert jcs.dumps(jcs.loads(data, "interface")) == data
    assert encode(made().interface()) == data


@pytest.mark.parametrize("change", [{"svn": 2}, {"most": 11}, {"default": 0.25}])
def test_changes_show(change: dict[str, int]) -> None:
    """A bound, a default or a version that changes, changes the document."""
    assert made(**change).interface_json() != made().interface_json()


def test_same_in_every_process(subject: Path) -> None:
    """Hash seeds do not show in it."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import app; print(app.app.interface_json())"
    said = {
        subprocess.run(
            [sys.executable, "-c", program, str(subject.parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
