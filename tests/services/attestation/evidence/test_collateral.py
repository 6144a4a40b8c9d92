"""Documents that a host gives, or does not: requested in time, and not more often than useful."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.collateral import subject
from kluis.enclave.store import SealedStore
from kluis.errors import UnavailableError
from kluis.formats.sgx import quote as sgx_quote
from kluis.services import backoff
from tests.evidence.amd.forge import Forge as AmdForge
from tests.services.attestation.test_attesting import sgx, snp
from tests.services.attestation.world import AMD, DOCUMENTS, INTEL, World, b64u, error_of, from_b64u


class Host:
    """A host that gives documents, or fails, and counts its requests; on a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.broken = True
        self.seconds = 0.0
        self.revoked: tuple[int, ...] = ()
        monkeypatch.setattr(backoff, "monotonic", lambda: self.seconds)

    def give(self, kind: str, evidence: bytes) -> bytes:
        """Documents of the right kind."""
        self.asked.append(kind)
        if self.broken:
            raise UnavailableError(f"no answer {len(self.asked)}")
        if kind == "snp":
            return AMD.endorsements(crl=AMD.crl(*self.revoked)).to_json()
        return DOCUMENTS.to_json()


def test_a_host_that_fails_is_left_alone_for_a_while(
    storage: SealedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries come later each time, for all of a platform's quotes; refusals meanwhile have the reason."""
    host = Host(monkeypatch)
    world = World(storage, collateral=(), ask=host.give)
    spaced = INTEL.requote(certification_data=sgx_quote.parse(INTEL.quote()).certification_data + b"\n")
    for _ in range(3):
        for request in (sgx(), {"quote": b64u(spaced)}):
            status, code, message = error_of(world.attest("SgxEnclave", request))
            assert (status, code) == (503, "ServiceUnavailable")
            assert "got none: no answer 1" in message
    assert message.endswith(" (so it was 0 s ago; next request in 1 s)")
    assert host.asked == ["sgx"]
    host.seconds = 1.0
    assert error_of(world.attest("SgxEnclave", sgx()))[2].endswith("got none: no answer 2")
    host.broken, host.seconds = False, 2.9
    assert "no answer 2 (so it was 2 s ago" in error_of(world.attest("SgxEnclave", sgx()))[2]
    host.seconds = 3.0
    for _ in range(3):
        assert world.attest("SgxEnclave", sgx()).status_code == 200
    assert len(host.asked) == 3
    # An hour later they are requested again; the cached ones are used meanwhile.
    world.clock.at += timedelta(hours=1)
    host.broken = True
    for _ in range(3):
        assert world.attest("SgxEnclave", sgx()).status_code == 200
    assert len(host.asked) == 4


def test_a_quote_that_has_a_host_look_elsewhere(
    storage: SealedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What anybody may write into a quote, so that the host fails, holds up no other quote."""
    host = Host(monkeypatch)
    world = World(storage, collateral=(), ask=host.give)
    lying = INTEL.with_header(user_data=bytes(20))
    assert error_of(world.attest("SgxEnclave", {"quote": b64u(lying)}))[0] == 503
    host.broken = False
    assert world.attest("SgxEnclave", sgx()).status_code == 200


@pytest.mark.parametrize(
    "lying",
    [
        lambda: INTEL.requote(certification_type=3),
        lambda: b"\x09" + INTEL.quote()[1:],
        lambda: INTEL.quote()[:48] + b"\xff" + INTEL.quote()[48:],
    ],
    ids=["only names its platform", "of another version", "shifted"],
)
def test_a_quote_that_only_ends_as_a_platforms(
    storage: SealedStore, monkeypatch: pytest.MonkeyPatch, lying: Callable[[], bytes]
) -> None:
    """A host fails for what is no quote of a platform's: that keeps no newer documents from its quotes."""
    host, good = Host(monkeypatch), sgx()
    lie = {"quote": b64u(lying())}

    def give(kind: str, evidence: bytes) -> bytes:
        host.broken = evidence != from_b64u(good["quote"])
        return host.give(kind, evidence)

    world = World(storage, collateral=(), ask=give)
    for _ in range(2):
        assert world.attest("SgxEnclave", lie).status_code in (400, 503)
        before = len(host.asked)
        assert world.attest("SgxEnclave", good).status_code == 200
        assert (len(host.asked), host.broken) == (before + 1, False)
        world.clock.at += timedelta(hours=1)


def test_lists_of_what_amd_revoked(storage: SealedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an invalid report no CRL is requested; an unavailable one is soon requested again."""
    host = Host(monkeypatch)
    world = World(storage, ask=host.give)
    forged = json.loads(from_b64u(snp()["report"]))
    report = bytearray(from_b64u(forged["SnpReport"]))
    report[0x1A0] ^= 1  # its chip, which the host would look for
    forged["SnpReport"] = b64u(bytes(report))
    body = {"report": b64u(json.dumps(forged).encode())}
    assert error_of(world.attest("SevSnpVm", body))[1] == "InvalidParameter"
    assert host.asked == []
    for _ in range(3):
        assert world.attest("SevSnpVm", snp()).status_code == 200
    assert host.asked == ["snp"]
    host.broken, host.seconds, host.revoked = False, 1.0, (AMD.ask.serial_number,)
    status, code, message = error_of(world.attest("SevSnpVm", snp()))
    assert (status, code) == (400, "InvalidParameter")
    assert "revoked" in message
    assert host.asked == ["snp", "snp"]


def test_a_list_for_a_clouds_key_and_one_for_chips(storage: SealedStore) -> None:
    """For a report without a chip id the CRL of its key is requested; AMD's other CRL is separate."""
    cloud = AmdForge(emulated=True, vlek=True)
    cloud.ark = AMD.ark
    cloud.ask = cloud.make_ask()
    cloud.vek = cloud.make_vek()
    signers: list[str] = []

    def give(kind: str, evidence: bytes) -> bytes:
        whose = subject.of(evidence)
        assert isinstance(whose, subject.Amd)
        signers.append(whose.signer)
        of, revoked = (AMD, (AMD.ask.serial_number,)) if whose.signer == "vcek" else (cloud, ())
        return of.endorsements(crl=of.crl(*revoked)).to_json()

    world = World(storage, ask=give)
    made = cloud.report(report_data=from_b64u(snp_data()))
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (cloud.vek, cloud.ask, cloud.ark))
    bundle = json.dumps({"SnpReport": b64u(made), "VcekCertChain": b64u(chain)}).encode()
    request = {**snp(), "report": b64u(bundle)}
    for _ in range(2):
        assert world.attest("SevSnpVm", request).status_code == 200
    assert signers == ["vlek"]
    assert "revoked" in error_of(world.attest("SevSnpVm", snp()))[2]
    assert signers == ["vlek", "vcek"]


def snp_data() -> str:
    """What a good report about an SNP guest is bound to."""
    report = from_b64u(json.loads(from_b64u(snp()["report"]))["SnpReport"])
    return b64u(report[0x50:0x90])
