"""The registry recognises evidence by its first bytes, and refuses what it does not know."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kluis.errors import UnsupportedError
from kluis.evidence import registry, verify
from tests.evidence.forge import NOW, Forge
from tests.meta.tree import SRC


@pytest.mark.parametrize(
    "data", [b"", b"\3\0", bytes(48), b"\4\0\2\0\x82\0\0\0" + bytes(600), b"PNG" * 100], ids=len
)
def test_unknown(data: bytes, forge: Forge) -> None:
    """What is no evidence of a known kind is unsupported, and the message says what is."""
    with pytest.raises(UnsupportedError) as caught:
        verify(data, anchors=forge.anchors, collateral=forge.collateral(), now=NOW)
    kinds = ", ".join(kind.name for kind in registry.kinds())
    assert str(caught.value) == f"evidence: is of no known kind; supported: {kinds}"


def test_newer_versions_are_named(forge: Forge) -> None:
    """A quote of another version is told apart from noise."""
    with pytest.raises(UnsupportedError) as caught:
        forge.verify(b"\6\0\2\0" + forge.quote()[4:])
    assert str(caught.value) == "DCAP quote version 6; supported: [3, 4, 5]"


def test_one_kind_a_name() -> None:
    """No two kinds of evidence share a name."""
    names = [kind.name for kind in registry.kinds()]
    assert len(names) == len(set(names))


MET = {
    "quote": ("amd", "intel"),
    "document": ("nitro",),
    "token": ("cca",),
    "collection": ("nvidia",),
}


@pytest.mark.parametrize("kind", MET)
def test_makers_are_loaded_when_they_are_met(forge: Forge, kind: str) -> None:
    """Importing the verifier loads no maker's room; evidence loads its own, and not what comes after."""
    program = (
        "import sys, kluis.evidence as evidence; assert evidence.verify and evidence.Verifier\n"
        "from kluis.evidence import registry\n"
        "rooms = ('amd', 'azure', 'cca', 'intel', 'nitro', 'nvidia', 'tpm')\n"
        "def makers(): return [name for name in rooms if 'kluis.evidence.' + name in sys.modules]\n"
        "print(makers())\n"
        "registry.kind_of(bytes.fromhex(sys.argv[1]))\n"
        "print(makers())"
    )
    begins = {
        "quote": forge.quote(),
        "document": b"\xd2\x84\x44\xa1\x01\x38\x22\xa0\x59\x11\x11\xbf\x69module_id",
        "token": b"\xd9\x01\x8f",
        "collection": b'{"report":[30001,"EeAB_w"],"cert_chain":[30001,"AA"]}',
    }
    argv = [sys.executable, "-c", program, begins[kind].hex()]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SRC.parent)}
    )
    assert done.stdout.splitlines() == ["[]", str(list(MET[kind]))]
    assert registry.kind_of(begins[kind]).matches(begins[kind])


def test_makers_names_are_lazy() -> None:
    """A maker's own claims are found under the package's name, and nothing else is."""
    import kluis.evidence as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        _ = package.NoSuchClaims
