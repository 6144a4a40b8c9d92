"""AMD's service on loopback: paths, products, and chips that do not say what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.collateral import Cache, Cached, Key, Kind, Offline, Vendors, fetch_for
from kluis.collateral.amd import Kds
from kluis.errors import AuthenticityError, FormatError, UnavailableError, UsageError
from kluis.formats.snp import table
from kluis.formats.snp.endorsements import Endorsements
from tests.collateral.service import Reply, Service
from tests.evidence.amd.forge import NOW, Forge
from tests.evidence.azure.forge import AzureForge

CHIP = "".join(f"{byte:02x}" for byte in range(1, 65))
SPLS = "blSPL=04&teeSPL=01&snpSPL=24&ucodeSPL=219"


@pytest.fixture(scope="module")
def milan() -> Forge:
    return Forge("Milan")


@pytest.fixture
def kds(service: Service) -> Iterator[Kds]:
    with Kds(service.url, trust=service.trust) as made:
        yield made


def serve(service: Service, forge: Forge) -> None:
    """Put a forger's certificates where AMD's service has them."""
    signer = "vlek" if forge.vlek else "vcek"
    chain = b"".join(one.public_bytes(Encoding.PEM) for one in (forge.ask, forge.ark))
    service.put(f"/{signer}/v1/{forge.product}/cert_chain", Reply(body=chain))
    service.put(f"/{signer}/v1/{forge.product}/crl", Reply(body=forge.crl()))
    if not forge.vlek:
        path = f"/vcek/v1/{forge.product}/{forge.hw_id.hex()}"
        service.put(path, Reply(body=forge.vek.public_bytes(Encoding.DER)))


def fetch(forge: Forge, provider: Kds | Cached | Vendors, report: bytes | None = None) -> Endorsements:
    found = fetch_for(report or forge.report(), provider, release="early", anchors=forge.anchors, now=NOW)
    assert isinstance(found, Endorsements)
    return found


@pytest.mark.parametrize(
    ("kind", "key", "path"),
    [
        (Kind.VCEK, ("Milan", CHIP, "4-1-24-219"), f"/vcek/v1/Milan/{CHIP}?{SPLS}"),
        (Kind.VCEK, ("Turin", CHIP[:16], "2-4-1-24-219"), f"/vcek/v1/Turin/{CHIP[:16]}?fmcSPL=02&{SPLS}"),
        (Kind.AMD_CHAIN, ("Genoa", "vcek"), "/vcek/v1/Genoa/cert_chain"),
        (Kind.AMD_CRL, ("Genoa", "vlek"), "/vlek/v1/Genoa/crl"),
    ],
    ids=str,
)
def test_each_document_has_its_path(service: Service, kds: Kds, kind: Kind, key: Key, path: str) -> None:
    """Each kind of document is requested by AMD's path; Turin has different names for chips and
    components.
    """
    with pytest.raises(UnavailableError) as caught:
        kds.get(kind, key, NOW)
    assert caught.value.code == "collateral_missing"
    assert service.asked == [path]


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
def test_what_is_fetched_verifies_the_report(service: Service, kds: Kds, product: str) -> None:
    """A report's chip, at its reported TCB, with chain and CRL of its product, is what its verifier needs."""
    forge = Forge(product)
    serve(service, forge)
    found = fetch(forge, kds)
    assert forge.verify(endorsements=found).platform.product == product
    assert found.crl is not None
    assert len(service.asked) == 3


def test_a_report_that_does_not_say_its_product(service: Service, kds: Kds) -> None:
    """A version 2 report may be of Milan or of Genoa: both are requested, one after the other."""
    forge = Forge("Genoa")
    serve(service, forge)
    report = forge.report(version=2)
    assert forge.verify(report, endorsements=fetch(forge, kds, report)).platform.product == "Genoa"
    assert [path.split("/")[3] for path in service.asked] == ["Milan", "Genoa", "Genoa", "Genoa"]


def test_a_chip_that_amd_does_not_know(service: Service, kds: Kds, milan: Forge) -> None:
    """A missing certificate for the chip at that TCB is reported, with a hint of where else it may be."""
    with pytest.raises(UnavailableError) as caught:
        fetch(milan, kds)
    assert caught.value.code == "collateral_missing"
    assert caught.value.hint is not None


def test_a_busy_service_is_not_taken_for_one_that_has_none(service: Service, kds: Kds) -> None:
    """Being refused for asking often does not send the question to another product's certificates."""
    forge = Forge("Genoa")
    serve(service, forge)
    service.put(f"/vcek/v1/Milan/{forge.hw_id.hex()}", Reply(429))
    with pytest.raises(UnavailableError) as caught:
        fetch(forge, kds, forge.report(version=2))
    assert caught.value.code == "service_busy"


def test_a_masked_chip(kds: Kds, milan: Forge) -> None:
    """A report whose host masks the chip's id names no chip to ask for."""
    with pytest.raises(UnavailableError) as caught:
        fetch(milan, kds, milan.report(chip_id=bytes(64)))
    assert (caught.value.code, "masked" in caught.value.message) == ("chain_missing", True)


def test_a_vlek_comes_from_its_host(service: Service, kds: Kds) -> None:
    """AMD publishes no VLEK: it is taken from the report's own table, and chain and CRL from AMD."""
    forge = Forge("Milan", vlek=True)
    serve(service, forge)
    with pytest.raises(UnavailableError) as caught:
        fetch(forge, kds)
    assert caught.value.code == "chain_missing"
    carried = table.build({table.VLEK: forge.vek.public_bytes(Encoding.DER)})
    report = forge.report() + carried.encode()
    assert forge.verify(report, endorsements=fetch(forge, kds, report)).platform.product == "Milan"
    assert service.asked == ["/vlek/v1/Milan/cert_chain", "/vlek/v1/Milan/crl"]


def test_a_vcek_is_kept_for_ever(service: Service, kds: Kds, milan: Forge, tmp_path: Path) -> None:
    """A VCEK is requested only once, however many days pass; chain and CRL are requested again."""
    serve(service, milan)
    cache = Cache(tmp_path / "kept")
    fetch(milan, Cached(cache, kds))
    service.asked.clear()
    later = NOW.replace(day=NOW.day + 10)
    found = fetch_for(milan.report(), Cached(cache, kds), release="early", anchors=milan.anchors, now=later)
    assert isinstance(found, Endorsements)
    assert service.asked == ["/vcek/v1/Milan/cert_chain", "/vcek/v1/Milan/crl"]


def test_a_genuine_vcek_of_another_chip(service: Service, kds: Kds, milan: Forge, tmp_path: Path) -> None:
    """A VCEK is kept permanently, but not one that a service gives for another chip, or another TCB."""
    serve(service, milan)
    path = f"/vcek/v1/Milan/{milan.hw_id.hex()}"
    for other in ({"hw_id": bytes(64)}, {"spls": {**milan.spls, "microcode": 218}}):
        lie = milan.make_vek(milan.extensions(**other))
        service.put(path, Reply(body=lie.public_bytes(Encoding.DER)))
        with pytest.raises(AuthenticityError) as caught:
            fetch(milan, Cached(Cache(tmp_path / "kept"), kds))
        assert caught.value.code == "collateral_mismatch"
    serve(service, milan)
    found = fetch(milan, Cached(Cache(tmp_path / "kept"), kds))
    assert milan.verify(milan.report(), endorsements=found).platform.product == "Milan"


def test_what_amd_did_not_sign(service: Service, kds: Kds, milan: Forge, tmp_path: Path) -> None:
    """A certificate that its chain did not sign is refused, and not kept."""
    serve(service, milan)
    stranger = Forge("Genoa").vek
    service.put(f"/vcek/v1/Milan/{milan.hw_id.hex()}", Reply(body=stranger.public_bytes(Encoding.DER)))
    with pytest.raises(AuthenticityError):
        fetch(milan, Cached(Cache(tmp_path / "kept"), kds))
    assert not (tmp_path / "kept").exists()


def test_damage_is_a_format_error(service: Service, kds: Kds, milan: Forge) -> None:
    """An answer that is no certificate, or no CRL, is refused."""
    serve(service, milan)
    service.put("/vcek/v1/Milan/crl", Reply(body=b"<html>"))
    with pytest.raises(FormatError):
        fetch(milan, kds)


def test_the_hardware_under_an_azure_vm(service: Service, kds: Kds) -> None:
    """Of an Azure VM on SNP, the report inside its own is what is endorsed; of a bare TDREPORT nothing is."""
    forge = AzureForge()
    serve(service, forge.amd)
    evidence = forge.parts(forge.snp(), **forge.tpm())
    vendors = Vendors(intel=Offline({}), amd=kds)
    found = fetch_for(evidence, vendors, release="early", anchors=forge.anchors, now=NOW)
    assert forge.verify(evidence, found).platform.product == "Milan"
    with pytest.raises(UnavailableError) as caught:
        fetch_for(forge.tdx(), vendors, release="early", anchors=forge.anchors, now=NOW)
    assert caught.value.code == "chain_missing"


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (Kind.VCEK, ("Rome", CHIP, "4-1-24-219")),
        (Kind.VCEK, ("Milan", CHIP[:-2], "4-1-24-219")),
        (Kind.VCEK, ("Milan", CHIP, "4-1-24")),
        (Kind.VCEK, ("Milan", CHIP, "4-1-24-256")),
        (Kind.VCEK, ("Milan", CHIP, "4-1-24-x")),
        (Kind.AMD_CHAIN, ("Milan", "vtek")),
        (Kind.PCK_CRL, ("platform",)),
    ],
    ids=str,
)
def test_no_other_words(service: Service, kds: Kds, kind: Kind, key: Key) -> None:
    """A malformed key, or another vendor's document, is refused and never requested."""
    with pytest.raises(UsageError):
        kds.get(kind, key, NOW)
    assert service.asked == []
