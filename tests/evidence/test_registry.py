"""The registry recognises evidence by its first bytes, and refuses what it does not know."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kluis import evidence
from kluis.errors import UnsupportedError, UsageError
from kluis.evidence import Verifier, registry, verify
from kluis.evidence.intel.collateral import HeldCollateral
from kluis.evidence.tpm.activation import Activated
from kluis.formats.cca import endorsements as cca
from kluis.formats.hcl.endorsements import AzureEndorsements
from kluis.formats.nvidia.endorsements import NvidiaEndorsements
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.snp import endorsements as snp
from kluis.formats.tpm.endorsements import TpmEndorsements
from tests.evidence.forge import NOW, Forge
from tests.evidence.samples import MAKERS, sample
from tests.meta.tree import SRC


@pytest.mark.parametrize(
    "data", [b"", b"\3\0", bytes(48), b"\4\0\2\0\x82\0\0\0" + bytes(600), b"PNG" * 100], ids=len
)
def test_unknown(data: bytes, forge: Forge) -> None:
    """Evidence of an unknown kind is unsupported, and the message lists the kinds."""
    with pytest.raises(UnsupportedError) as caught:
        verify(data, anchors=forge.anchors, collateral=forge.collateral(), now=NOW)
    kinds = ", ".join(kind.name for kind in registry.kinds())
    assert str(caught.value) == f"evidence: is of no known kind; supported: {kinds}"


def test_newer_versions_are_named(forge: Forge) -> None:
    """A quote of another version is distinguished from noise."""
    with pytest.raises(UnsupportedError) as caught:
        forge.verify(b"\6\0\2\0" + forge.quote()[4:])
    assert str(caught.value) == "DCAP quote version 6; supported: [3, 4, 5]"


def test_one_kind_a_name() -> None:
    """No two kinds of evidence share a name."""
    names = [kind.name for kind in registry.kinds()]
    assert len(names) == len(set(names))


MET = {
    "quote": ("intel",),
    "document": ("nitro",),
    "token": ("cca",),
    "collection": ("nvidia",),
}


@pytest.mark.parametrize("kind", MET)
def test_makers_are_loaded_when_they_are_met(forge: Forge, kind: str) -> None:
    """Importing the verifier loads no vendor's package; evidence loads its own, and no later ones."""
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


@pytest.mark.parametrize("name", MAKERS)
def test_each_is_verified_as_what_it_is(name: str) -> None:
    """Good evidence of every kind is verified by its own verifier, once or by one with a cache."""
    good = sample(name)
    kind = registry.kind_of(good.data)
    assert kind.verify.__module__ == f"kluis.evidence.{name}"
    assert kind.matches(good.data)
    once = good.verify()
    verifier = Verifier(good.anchors)
    for _ in range(2):
        assert verifier.verify(good.data, collateral=good.collateral, now=good.now).value == once
    with pytest.raises(UsageError, match="now: want an aware time, got a naive one"):
        verifier.verify(good.data, collateral=good.collateral, now=good.now.replace(tzinfo=None))


TAKEN: dict[str, set[type]] = {
    "amd.snp": {snp.Endorsements},
    "azure.hcl": {AzureEndorsements, snp.Endorsements, Collateral, HeldCollateral},
    "cca.token": {cca.Endorsements},
    "intel.sgx": {Collateral, HeldCollateral},
    "intel.tdx": {Collateral, HeldCollateral},
    "nitro.document": set(),
    "nvidia.report": {NvidiaEndorsements},
    "tpm.tpm": {TpmEndorsements, Activated},
}


def public(kind: type) -> str:
    """The name by which a caller imports a type of collateral, where there is one."""
    return next((name for name in evidence.__all__ if getattr(evidence, name) is kind), kind.__name__)


@pytest.mark.parametrize("name", MAKERS)
def test_each_takes_its_makers_collateral(name: str, forge: Forge) -> None:
    """Collateral of another vendor's evidence is the caller's mistake, and reported as that."""
    good = sample(name)
    kind = registry.kind_of(good.data)
    assert set(kind.endorsements) == TAKEN[name]
    given = [sample(other).collateral for other in MAKERS]
    given += [forge.held(), NvidiaEndorsements(ocsp=()), object.__new__(Activated)]
    assert {type(each) for each in given} - {type(None)} == set().union(*TAKEN.values())
    for each in given:
        if each is None or type(each) in TAKEN[name]:
            continue
        with pytest.raises(UsageError) as caught:
            good.verify(collateral=each)
        wanted = " or ".join(map(public, kind.endorsements)) or "none"
        assert str(caught.value) == (f"collateral: want {wanted} for {kind.name}, got {public(type(each))}")


def test_makers_names_are_lazy() -> None:
    """A vendor's own claims are found under the package's name, and nothing else is."""
    import kluis.evidence as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        _ = package.NoSuchClaims
