"""An evidence file is a wrapper: its evidence is verified, and must bind the documents next to it."""

from __future__ import annotations

import dataclasses

import pytest

from kluis.errors import AuthenticityError, FormatError, KluisError, UnsupportedError, UsageError
from kluis.evidence import EvidenceFile, collateral_of, verify
from kluis.evidence.sniff import sniff
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.kluis.evidence_file import MAX_COLLATERAL, MAX_EVIDENCE, TYPE
from kluis.formats.x509 import write_pem
from tests.evidence import samples
from tests.evidence.forge import Forge

SGX = Forge()
FILE = EvidenceFile(
    evidence=SGX.quote(),
    runtime_data=SGX.runtime,
    launch_configuration=SGX.launch,
    collateral=SGX.collateral().to_json(),
    image="hello",
)


def _verified(file: EvidenceFile) -> dict[str, bytes]:
    """What the wrapper of a file binds, once it is verified."""
    given = {"anchors": SGX.anchors, "collateral": collateral_of(file), "now": SGX.now}
    wrapper = verify(file.encode(), **given).value.wrapper
    assert wrapper is not None
    assert wrapper.name == "evidence file"
    return dict(wrapper.binds)


def test_a_file_is_verified_with_what_it_holds() -> None:
    """The evidence binds both documents, and the collateral in the file is the vendor's."""
    assert _verified(FILE) == {"runtime data": SGX.runtime, "launch configuration": SGX.launch}
    assert _verified(dataclasses.replace(FILE, runtime_data=None, launch_configuration=None)) == {}


def test_documents_of_other_evidence_are_refused() -> None:
    """A document that the evidence does not bind is refused, though the evidence is authentic."""
    for name, code in (("runtime_data", "runtime_data"), ("launch_configuration", "launch_configuration")):
        with pytest.raises(
            AuthenticityError, match="evidence file: the evidence within binds another"
        ) as error:
            _verified(dataclasses.replace(FILE, **{name: b"{}"}))
        assert error.value.code == code


def test_a_launch_configuration_without_a_place_for_it() -> None:
    """Evidence without a CONFIGID binds no launch configuration."""
    snp = samples.sample("amd.snp")
    file = EvidenceFile(evidence=snp.data, launch_configuration=b"{}")
    with pytest.raises(AuthenticityError, match="got none"):
        snp.verify(file.encode())


def test_every_kind_of_evidence_may_be_in_a_file() -> None:
    """Evidence of each TEE is verified in a file as it is alone, with its collateral if that has JSON."""
    kinds = set()
    for sample in map(samples.sample, samples.REGISTERED):
        alone = sample.verify()
        written = getattr(sample.collateral, "to_json", None)
        file = EvidenceFile(evidence=sample.data, collateral=written() if written else None)
        again = sample.verify(file.encode(), **({"collateral": collateral_of(file)} if written else {}))
        assert dataclasses.replace(again, wrapper=None) == dataclasses.replace(alone, wrapper=None)
        kinds.add(alone.tee)
    assert len(kinds) == 8


def test_no_collateral() -> None:
    """A file without collateral has none; evidence that takes none is refused with it."""
    assert collateral_of(dataclasses.replace(FILE, collateral=None)) is None
    nitro = samples.sample("nitro.document")
    with pytest.raises(UsageError) as error:
        collateral_of(EvidenceFile(evidence=nitro.data, collateral=b"{}"))
    assert error.value.message == (
        "evidence file.collateral: evidence of kind Nitro document takes no collateral"
    )


MEGABYTE = write_pem(bytes(1000)) * 750
TWO = Collection({"one": Part(OCTETS, SGX.quote()), "two": Part(OCTETS, SGX.quote())}).encode()
BAD: dict[str, tuple[bytes, type[KluisError], str]] = {
    "two quotes": (
        EvidenceFile(evidence=TWO).encode(),
        UnsupportedError,
        "CMW collection: want one piece of evidence within, got 2",
    ),
    "no quote, and documents": (
        Collection({"runtime_data": Part("application/json", SGX.runtime)}, TYPE).encode(),
        AuthenticityError,
        "evidence file: want a part evidence, got runtime_data",
    ),
    "a document for a quote": (
        EvidenceFile(evidence=SGX.runtime).encode(),
        UnsupportedError,
        "evidence: is of no known kind",
    ),
    "a quote with a megabyte of certificates": (
        EvidenceFile(evidence=SGX.requote(certification_data=MEGABYTE)).encode(),
        FormatError,
        "DCAP quote: is 1",
    ),
    "a file in a file in a file": (
        EvidenceFile(
            evidence=EvidenceFile(
                evidence=EvidenceFile(
                    evidence=EvidenceFile(evidence=EvidenceFile(evidence=SGX.quote()).encode()).encode()
                ).encode()
            ).encode()
        ).encode(),
        FormatError,
        "evidence file: is wrapped more than 4 deep",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str) -> None:
    """Each is refused with an error that names what is wrong."""
    data, kind, message = BAD[case]
    with pytest.raises(kind) as error:
        verify(data, anchors=SGX.anchors, collateral=SGX.collateral(), now=SGX.now)
    assert error.value.message.startswith(message), error.value.message


def test_too_much_of_a_part() -> None:
    """A megabyte of certificates is not written into a file, nor read from one."""
    assert len(MEGABYTE) > 1 << 20
    with pytest.raises(FormatError) as error:
        dataclasses.replace(FILE, collateral=MEGABYTE).encode()
    assert error.value.message == (
        f"evidence file.collateral: want 1..{MAX_COLLATERAL} bytes, got {len(MEGABYTE)}"
    )
    with pytest.raises(FormatError, match=f"want 1..{MAX_EVIDENCE} bytes"):
        EvidenceFile(evidence=bytes(MAX_EVIDENCE + 1)).encode()


def test_what_is_shown_of_a_file() -> None:
    """Every part is recognised; the name of the image is text, and no part."""
    found = sniff(FILE.encode())
    assert (found.name, found.value) == ("Kluis evidence file", FILE)
    assert [(label, each.name) for label, each in found.within] == [
        ("evidence", "SGX quote v3"),
        ("runtime_data", "Kluis runtime data"),
        ("launch_configuration", "Kluis launch configuration"),
        ("collateral", "Intel collateral"),
    ]
