"""Drivers of vTPMs against a TPM in software: Azure, Google, NitroTPM, and only a TPM."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from kluis.errors import UnavailableError, UsageError
from kluis.evidence import AzureEndorsements, ProtectionLevel, SnpEndorsements, TpmEndorsements, verify
from kluis.evidence.anchors import TrustAnchors
from kluis.formats import x509
from kluis.formats.encoding import b64
from kluis.formats.hcl import vtpm
from kluis.formats.hcl.report import ReportType
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.nitro.document import Document
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.command import ENDORSEMENT, OWNER
from kluis.formats.tpm.nv import NvAttribute, NvPublic
from kluis.formats.tpm.public import Public, RsaPublic
from kluis.tee.drivers import google
from kluis.tee.drivers.aws import BUFFER, Aws
from kluis.tee.drivers.azure import Azure
from kluis.tee.drivers.google import Google
from kluis.tee.drivers.tpm import TpmDriver
from kluis.tee.drivers.tsm import Tsm
from kluis.tee.tpm import keys, quoting
from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.transport import Transport
from tests import vectors
from tests.evidence.azure.forge import AzureForge
from tests.evidence.nitro.forge import Forge as NitroForge
from tests.formats.hcl.reports import hcl_report, runtime_json
from tests.tee.drivers import fuse
from tests.tee.drivers.metadata import ok, serving
from tests.tee.drivers.test_tsm import snp
from tests.tee.tpm.tpms import Software

NONCE = bytes(range(32))
DATA = NONCE + bytes(32)
NO_LOG = Path("/nonexistent")
BY_OWNER = NvAttribute.OWNER_READ | NvAttribute.OWNER_WRITE


def put(tpm: Tpm, index: int, data: bytes, access: int = BY_OWNER) -> None:
    """Store bytes in an NV index, as firmware does."""
    area = NvPublic(index=index, name_hash=HashId.SHA256, attributes=access, policy=b"", size=len(data))
    tpm.nv_define(area)
    tpm.nv_write(index, data, by=OWNER)


def collection(parts: dict[str, bytes], **names: str) -> bytes:
    """The collection that the verifiers read; the names are those of an endorsement."""
    held = {"tpm_quote": "quote", "tpm_signature": "signature", "pcrs": "pcrs", **names}
    return Collection({new: Part(OCTETS, parts[old]) for new, old in held.items()}).encode()


class Paravisor:
    """What Azure's paravisor leaves in the vTPM, on forged hardware."""

    def __init__(self, tpm: Tpm, kind: ReportType = ReportType.SNP, **runtime: Any) -> None:
        self.forge = AzureForge()
        self.kind = kind
        self.extra = runtime
        handle = tpm.create_primary(ENDORSEMENT, keys.RSA_ATTESTATION.encode())
        with tpm.holding(handle):
            area = tpm.read_public(handle)
            assert isinstance(area.key, RsaPublic)
            self.modulus = int.from_bytes(area.key.modulus, "big")
            tpm.persist(handle, vtpm.AK)
        put(tpm, vtpm.REPORT, self.report())

    def report(self, **more: Any) -> bytes:
        runtime = runtime_json(self.modulus, **{**self.extra, **more})
        bound = hashlib.sha256(runtime).digest() + bytes(32)
        if self.kind is ReportType.SNP:
            return hcl_report(self.forge.amd.report(report_data=bound, vmpl=0), runtime).encode()
        made = self.forge.tdreport()
        mac = dataclasses.replace(made.mac, report_data=bound)
        return hcl_report(
            dataclasses.replace(made, mac=mac).encode(), runtime, ReportType.TDX, version=2
        ).encode()

    def imds(self, request: bytes) -> bytes:
        if request.startswith(b"GET /metadata/THIM/amd/certification "):
            good = self.forge.amd.endorsements()
            vek, ask, ark = (x509.write_pem(each or b"").decode() for each in (good.vek, good.ask, good.ark))
            return ok(json.dumps({"vcekCert": vek, "certificateChain": ask + ark, "tcbm": "0"}).encode())
        assert request.startswith(b"POST /acc/tdquote ")
        body = json.loads(request.split(b"\r\n\r\n", 1)[1])
        report = b64.decode_url(body["report"], "report")
        quote = self.forge.intel.quote(self.forge.intel.td(report_data=report[128:192]))
        return ok(json.dumps({"quote": b64.encode_url(quote)}).encode())


@contextmanager
def vm(
    software: Software, kind: ReportType = ReportType.SNP, **runtime: Any
) -> Iterator[tuple[Paravisor, Azure]]:
    with software.tpm() as tpm:
        paravisor = Paravisor(tpm, kind, **runtime)
    with serving(paravisor.imds) as imds:
        yield paravisor, Azure(software.tpm, imds, NO_LOG, sleep=lambda _: None)


def test_azure_snp(software: Software) -> None:
    """All parts of one VM verify together, and the quote's nonce is ours."""
    with vm(software) as (paravisor, driver):
        assert driver.available() is None
        assert driver.kind() == "azure-snp"
        parts = dict(driver.endorse(DATA))
    assert set(parts) == {"hcl", "quote", "signature", "pcrs", "certificates"}
    vek, ask, ark = x509.split_pem(parts["certificates"], "certificates")
    given = AzureEndorsements(snp=SnpEndorsements(vek=vek, ask=ask, ark=ark))

    claims = verify(
        collection(parts, hcl_report="hcl"),
        anchors=paravisor.forge.anchors,
        collateral=given,
        now=paravisor.forge.now,
    ).value

    assert claims.nonce == NONCE
    assert claims.level is ProtectionLevel.HARDWARE_SNP


def test_azure_tdx(software: Software) -> None:
    """With TDX the quote comes from the metadata service, for the TDREPORT in the vTPM."""
    with vm(software, ReportType.TDX) as (paravisor, driver):
        assert driver.kind() == "azure-tdx"
        parts = dict(driver.endorse(DATA))
    assert set(parts) == {"hcl", "quote", "signature", "pcrs", "td_quote"}
    forge = paravisor.forge

    claims = verify(
        collection(parts, hcl_report="hcl", td_quote="td_quote"),
        anchors=forge.anchors,
        collateral=AzureEndorsements(tdx=forge.intel.collateral()),
        now=forge.now,
    ).value

    assert claims.nonce == NONCE
    assert claims.level is ProtectionLevel.PROCESS  # that of the forged root


def test_azure_user_data(software: Software) -> None:
    """The user data are written, and the report that contains them is waited for."""
    waits = []
    with software.tpm() as tpm:
        paravisor = Paravisor(tpm, user_data="00" * 64)
        held = tpm

        class Held(Tpm):
            def __init__(self) -> None:
                self._transport = held._transport

            def __exit__(self, *_: object) -> None:
                pass

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                data = held.nv_read(vtpm.USER_DATA, 64, by=OWNER)
                held.nv_write(vtpm.REPORT, paravisor.report(user_data=data.hex()), by=OWNER)

        with serving(paravisor.imds) as imds:
            parts = Azure(Held, imds, NO_LOG, sleep).endorse(DATA)
    assert waits == [1, 1]
    assert DATA.hex().encode() in parts["hcl"]


def test_azure_without_ak(software: Software) -> None:
    """A TPM without the paravisor's key is named, with its handle."""
    with vm(software) as (_, driver):
        with software.tpm() as tpm:
            tpm.persist(vtpm.AK, vtpm.AK)
        with pytest.raises(UnavailableError, match="has no attestation key 0x81000003") as refused:
            driver.endorse(DATA)
    assert refused.value.exit_code == 7


def test_azure_another_ak(software: Software) -> None:
    """A key that the report does not name is refused."""
    with vm(software) as (_, driver):
        with software.tpm() as tpm:
            tpm.persist(vtpm.AK, vtpm.AK)
            with tpm.holding(tpm.create_primary(OWNER, keys.RSA_ATTESTATION.encode())) as handle:
                tpm.persist(handle, vtpm.AK)
        with pytest.raises(UnavailableError, match="azure: attestation key: want"):
            driver.endorse(DATA)


def test_not_azure(software: Software) -> None:
    """A TPM without a report is not Azure's; a report of no TEE is refused."""
    driver = Azure(software.tpm, event_log=NO_LOG)
    assert "this is no confidential VM of Azure" in str(driver.available())
    with software.tpm() as tpm:
        runtime = runtime_json(int.from_bytes(b"\x80" + bytes(255), "big"))
        put(tpm, vtpm.REPORT, hcl_report(bytes(1184), runtime, ReportType.TVM).encode())
    assert "the VM has no TEE" in str(driver.available())


def test_azure_report_malformed(software: Software) -> None:
    """Whatever is in the index, the error is one of this machine."""
    with software.tpm() as tpm:
        put(tpm, vtpm.REPORT, b"HCLA" + bytes(100))
    with pytest.raises(UnavailableError, match="azure: HCL report") as refused:
        Azure(software.tpm, event_log=NO_LOG).endorse(DATA)
    assert refused.value.code == "driver_answer"


@pytest.mark.parametrize("body", [b"{}", b"[", b'{"vcekCert":"x","certificateChain":"y"}', b"\xff" * 100])
def test_azure_certificates_malformed(software: Software, body: bytes) -> None:
    """A metadata service that answers something else gives an error of this machine."""
    with software.tpm() as tpm:
        Paravisor(tpm)
    with serving(lambda _: ok(body)) as imds, pytest.raises(UnavailableError, match="azure: ") as refused:
        Azure(software.tpm, imds, NO_LOG).endorse(DATA)
    assert refused.value.exit_code == 7


def test_azure_td_quote_of_others(software: Software) -> None:
    """A TD quote of another TDREPORT is refused."""
    with software.tpm() as tpm:
        paravisor = Paravisor(tpm, ReportType.TDX)
    other = paravisor.forge.intel.quote(paravisor.forge.intel.td(report_data=b"o" * 64))
    with (
        serving(lambda _: ok(json.dumps({"quote": b64.encode_url(other)}).encode())) as imds,
        pytest.raises(UnavailableError, match="azure: report data: want"),
    ):
        Azure(software.tpm, imds, NO_LOG).endorse(DATA)


def test_azure_ak_certificate(software: Software) -> None:
    """The certificate is cut from its padding; without the index there is none."""
    driver = Azure(software.tpm, event_log=NO_LOG)
    assert driver.ak_certificate() is None
    der = x509.parse(AzureForge().amd.endorsements().ark or b"", "certificate").der
    with software.tpm() as tpm:
        put(tpm, vtpm.AK_CERTIFICATE, der + bytes(50))
    assert driver.ak_certificate() == der


class Large(Tpm):
    """A TPM with Azure's report in an index that is larger than one in software may be."""

    def __init__(self, software: Software, report: bytes) -> None:
        super().__init__(software.tpm()._transport)
        self._report = report

    def handles(self, first: int) -> tuple[int, ...]:
        return (vtpm.REPORT,) if first == vtpm.REPORT else super().handles(first)

    def nv_public(self, index: int) -> NvPublic:
        size = len(self._report)
        return NvPublic(index=index, name_hash=HashId.SHA256, attributes=BY_OWNER, policy=b"", size=size)

    def nv_read(self, index: int, size: int, *, by: int | None = None, secret: bytes = b"") -> bytes:
        return self._report[:size]


RECORDED = [
    one
    for one in vectors.found("azure")
    if one.outcome == "valid" and {"hcl_report", "endorsement_key", "ask", "ark"} <= set(one.meta["files"])
]


@pytest.mark.skipif(not RECORDED, reason=vectors.MISSING)
@pytest.mark.parametrize("vector", RECORDED, ids=lambda one: str(one.name))
def test_azure_recorded(software: Software, vector: vectors.Vector) -> None:
    """A real VM's report in the TPM, and its certificates from the service, verify under AMD's roots."""
    report = vector.part("hcl_report")
    key, ask, ark = (_as_pem(vector.part(role)).decode() for role in ("endorsement_key", "ask", "ark"))
    answer = ok(json.dumps({"vcekCert": key, "certificateChain": ask + ark, "tcbm": "0"}).encode())
    with serving(lambda _: answer) as imds:
        driver = Azure(lambda: Large(software, report), imds, NO_LOG)
        assert driver.kind() == "azure-snp"
        certificates = driver._thim()["certificates"]
        with Large(software, report) as tpm:
            held = driver._report(tpm).encode()
    assert held == report
    vek, issuer, root = x509.split_pem(certificates, "certificates")

    claims = verify(
        held,
        anchors=TrustAnchors.shipped(),
        collateral=SnpEndorsements(vek=vek, ask=issuer, ark=root),
        now=vector.now,
    ).value
    assert claims.level is ProtectionLevel.HARDWARE_SNP


def _as_pem(certificate: bytes) -> bytes:
    return certificate if certificate.startswith(b"-----") else x509.write_pem(certificate)


def test_event_log(tmp_path: Path) -> None:
    """The log is read as it is; an empty one, and one that fits into no endorsement, is left out."""
    path = tmp_path / "log"
    assert quoting.event_log(path) is None
    for size, want in ((0, False), (1, True), (quoting.MAX_LOG, True), (quoting.MAX_LOG + 1, False)):
        path.write_bytes(b"e" * size)
        assert quoting.event_log(path) == (b"e" * size if want else None)
    with pytest.raises(UnavailableError, match=r"event log .*: Is a directory"):
        quoting.event_log(tmp_path)


@pytest.mark.parametrize("data", [bytes(63), bytes(65), bytes(32) + b"x" * 32])
def test_report_data(software: Software, data: bytes) -> None:
    """A TPM signs 32 bytes: more than zeros after them would be lost."""
    for driver in (Azure(software.tpm), TpmDriver(software.tpm)):
        with pytest.raises(UsageError, match="report data: want 64 bytes"):
            driver.endorse(data)


def test_tpm(software: Software, tmp_path: Path) -> None:
    """The quote verifies under the key that the relying party names, at level ``vtpm``."""
    (tmp_path / "log").write_bytes(b"")
    driver = TpmDriver(software.tpm, tmp_path / "log")
    assert driver.available() is None
    assert driver.kind() == "tpm"
    assert driver.seal_secret() is None
    parts = dict(driver.endorse(DATA))
    assert set(parts) == {"quote", "signature", "pcrs", "ak"}
    area = _area(parts["ak"])
    anchors = TrustAnchors.from_pem(_pem(area.spki), ProtectionLevel.VTPM)

    claims = verify(
        collection(parts, tpm_public="ak"),
        anchors=anchors,
        collateral=TpmEndorsements(public=parts["ak"]),
        now=AzureForge().now,
    ).value

    assert claims.nonce == NONCE
    assert claims.level is ProtectionLevel.VTPM


def test_no_tpm(tmp_path: Path) -> None:
    """Without a TPM each driver states the reason."""
    nowhere = lambda: Tpm.open(str(tmp_path / "tpm"))  # noqa: E731
    for driver in (Azure(nowhere), TpmDriver(nowhere)):
        assert driver.available() == f"TPM: no {tmp_path}/tpm"


@pytest.mark.skipif(bool(fuse.MISSING), reason="no FUSE: apt-get install fuse3")
def test_google(software: Software, tmp_path: Path) -> None:
    """The hardware's report binds all report data, and the certified vTPM's quote the first 32 bytes."""
    forge = AzureForge()
    tree = snp(forge.amd)
    with software.tpm() as tpm:
        with tpm.holding(tpm.create_primary(ENDORSEMENT, keys._ATTESTATION.encode())) as handle:
            area = tpm.read_public(handle)
        leaf = forge.maker.ak(load_der_public_key(area.spki))
        put(tpm, google.KEYS[0].certificate, leaf.public_bytes(Encoding.DER) + bytes(20))
        put(tpm, google.KEYS[0].template, keys._ATTESTATION.encode())
    with fuse.mounted(tmp_path / "report", tree) as root:
        driver = Google(Tsm(root), software.tpm, NO_LOG)
        assert driver.available() is None
        assert driver.kind() == "snp"
        parts = {**driver.endorse(DATA), **driver.quote(DATA)}
    assert set(parts) == {"report", "certificates", "quote", "signature", "pcrs", "ak", "ak_certificate"}
    vek, ask, ark = x509.split_pem(parts["certificates"], "certificates")
    hardware = forge.amd.verify(parts["report"], SnpEndorsements(vek=vek, ask=ask, ark=ark))
    assert hardware.report_data == DATA
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (forge.maker.ca, forge.maker.root))
    given = TpmEndorsements(certificate=parts["ak_certificate"], chain=chain)

    vtpm = verify(
        collection(parts, tpm_public="ak"), anchors=forge.maker.anchors, collateral=given, now=forge.maker.now
    ).value

    assert vtpm.nonce == NONCE


@pytest.mark.skipif(bool(fuse.MISSING), reason="no FUSE: apt-get install fuse3")
def test_google_certificate_of_others(software: Software, tmp_path: Path) -> None:
    """A certificate of another key than the template's is refused."""
    forge = AzureForge()
    with software.tpm() as tpm:
        put(tpm, google.KEYS[0].certificate, forge.amd.endorsements().ark or b"")
        put(tpm, google.KEYS[0].template, keys._ATTESTATION.encode())
    with (
        fuse.mounted(tmp_path / "report", snp(forge.amd)) as root,
        pytest.raises(UnavailableError, match="google: key of the AK certificate: want"),
    ):
        Google(Tsm(root), software.tpm, NO_LOG).quote(DATA)


@pytest.mark.skipif(bool(fuse.MISSING), reason="no FUSE: apt-get install fuse3")
def test_not_google(software: Software, tmp_path: Path) -> None:
    """A TPM without a certified key is not Google's."""
    with fuse.mounted(tmp_path / "report", snp(AzureForge().amd)) as root:
        assert "no attestation key with a certificate" in str(Google(Tsm(root), software.tpm).available())


class NitroTpm(Tpm):
    """A hypervisor in front of a TPM: it plays the vendor command, and the index that it needs."""

    def __init__(self, software: Software, forge: NitroForge) -> None:
        self._software = software.tpm()
        self._forge = forge
        self._buffer: bytearray | None = None
        self._secret = b""
        super().__init__(self)  # type: ignore[arg-type]

    def close(self) -> None:
        assert self._buffer is None, "the index is left"
        self._software._transport.close()

    def exchange(self, request: bytes) -> bytes:
        code = int.from_bytes(request[6:10], "big")
        if BUFFER.to_bytes(4, "big") not in request[10:80]:
            return self._software._transport.exchange(request)
        done = bytes.fromhex("8002000000130000000000000000") + b"\0\0\0\0\0"
        match code:
            case 0x12A:
                self._buffer = bytearray(b"\xff" * 8192)
                at = 14 + 4 + int.from_bytes(request[14:18], "big")
                self._secret = request[at + 2 : at + 2 + int.from_bytes(request[at : at + 2], "big")]
                return done
            case 0x122:
                self._buffer = None
                return done
        assert self._buffer is not None
        area = int.from_bytes(request[18:22], "big")
        assert request[22 : 22 + area].endswith(self._secret)
        rest = request[22 + area :]
        match code:
            case 0x137:
                size, at = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[-2:], "big")
                self._buffer[at : at + size] = rest[2:-2]
                return done
            case 0x20000001:
                asked = cbor2.loads(bytes(self._buffer).rstrip(b"\xff"))["Attestation"]
                made = self._forge.document(user_data=asked["user_data"])
                answer = cbor2.dumps({"Attestation": {"document": made}})
                self._buffer[: len(answer)] = answer
                return done
            case _:
                size, at = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
                body = size.to_bytes(2, "big") + bytes(self._buffer[at : at + size])
                area_after = len(body).to_bytes(4, "big") + body + b"\0\0\0\0\0"
                return b"\x80\x02" + (10 + len(area_after)).to_bytes(4, "big") + bytes(4) + area_after


def test_nitro_tpm(software: Software, tmp_path: Path) -> None:
    """The request goes through an index to the vendor command, and the document is what comes back."""
    forge = NitroForge()
    (tmp_path / "vendor").write_text("Amazon EC2\n")
    driver = Aws(tmp_path / "nsm", lambda: NitroTpm(software, forge), tmp_path / "vendor")
    assert driver.kind() == "nitro-tpm"
    assert driver.available() is None
    parts = driver.endorse(DATA)

    assert Document.parse(parts["document"]).user_data == DATA


def test_no_nitro_tpm(software: Software, tmp_path: Path) -> None:
    """An instance whose TPM has no such command, or no space for the messages, is refused."""
    (tmp_path / "vendor").write_text("Amazon EC2\n")
    with pytest.raises(UnavailableError, match="TPM: NV_DEFINE_SPACE") as refused:
        Aws(tmp_path / "nsm", software.tpm, tmp_path / "vendor").endorse(DATA)
    assert refused.value.exit_code == 7


def _area(data: bytes) -> Public:
    from kluis.formats.tpm import public

    return public.parse(data)


def _pem(spki: bytes) -> bytes:
    return x509.write_pem(spki, "PUBLIC KEY")


class Liar(Transport):
    """A TPM, as a host may give one to its guest, that answers every command with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def exchange(self, request: bytes) -> bytes:
        """The answer."""
        return self._answer

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("answer", ["", "8001", "80010000000a00000000", "80020000000e000000000000ffff"])
def test_answers_of_no_tpm(tmp_path: Path, answer: str) -> None:
    """What no TPM answers is an error of this machine with exit code 7, and the driver is not available."""
    (tmp_path / "vendor").write_text("Amazon EC2\n")

    def opened() -> Tpm:
        return Tpm(Liar(bytes.fromhex(answer)))

    asked = hashlib.sha256(b"").digest() + bytes(32)
    here = Google(Tsm(tmp_path / "none"), opened)
    amazon = Aws(tmp_path / "nsm", opened, tmp_path / "vendor")
    for driver in (TpmDriver(opened), Azure(opened)):
        assert driver.available() is not None
    for ask in (TpmDriver(opened).endorse, Azure(opened).endorse, here.quote, amazon.endorse):
        with pytest.raises(UnavailableError) as caught:
            ask(asked)
        assert (caught.value.code, caught.value.exit_code) == ("driver_answer", 7)
