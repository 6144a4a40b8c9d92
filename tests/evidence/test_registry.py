"""The registry recognises evidence by its first bytes, and refuses what it does not know."""

from __future__ import annotations

import pytest

from kluis.errors import UnsupportedError
from kluis.evidence import registry, verify
from tests.evidence.forge import NOW, Forge


@pytest.mark.parametrize(
    "data", [b"", b"\3\0", bytes(48), b"\4\0\2\0\x82\0\0\0" + bytes(600), b"PNG" * 100], ids=len
)
def test_unknown(data: bytes, forge: Forge) -> None:
    """What is no evidence of a known kind is unsupported, and the message says what is."""
    with pytest.raises(UnsupportedError) as caught:
        verify(data, anchors=forge.anchors, collateral=forge.collateral(), now=NOW)
    kinds = [kind.name for kind in registry.KINDS]
    assert str(caught.value) == f"evidence: is of no known kind; supported: {kinds}"


def test_newer_versions_are_named(forge: Forge) -> None:
    """A quote of another version is told apart from noise."""
    with pytest.raises(UnsupportedError) as caught:
        forge.verify(b"\6\0\2\0" + forge.quote()[4:])
    assert str(caught.value) == "DCAP quote version 6; supported: [3, 4, 5]"


def test_one_kind_a_name() -> None:
    """No two kinds of evidence share a name."""
    names = [kind.name for kind in registry.KINDS]
    assert len(names) == len(set(names))
