"""/dev/sev-guest, /dev/tdx_guest and /dev/nsm through the kernel's ioctl, over FUSE."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cbor2
import pytest

from kluis.errors import UnavailableError
from kluis.evidence import SnpEndorsements, verify
from kluis.formats import x509
from kluis.formats.nitro.document import Document
from kluis.formats.snp import table
from kluis.tee.drivers.aws import Aws
from kluis.tee.drivers.snp import Snp
from kluis.tee.drivers.tdx import Tdx, connect_host
from tests import vectors
from tests.evidence.amd.forge import Forge as AmdForge
from tests.evidence.azure.forge import AzureForge
from tests.evidence.intel.forge import TdxForge
from tests.evidence.nitro.forge import Forge as NitroForge
from tests.tee.drivers import fuse
from tests.tee.drivers.devices import Nsm, SevGuest, TdxGuest
from tests.tee.drivers.fuse import Files

DATA = bytes(range(32)) + bytes(32)
pytestmark = pytest.mark.skipif(bool(fuse.MISSING), reason="no FUSE: apt-get install fuse3")


@contextmanager
def device(tmp_path: Path, tree: Files) -> Iterator[Path]:
    with fuse.mounted(tmp_path / "dev", tree, apart=isinstance(tree, TdxGuest | Other)) as root:
        yield root / "device"


class Other(Files):
    """A device that has none of the requests."""


def guest(forge: AmdForge) -> SevGuest:
    good = forge.endorsements()
    held = table.build({table.VCEK: good.vek or b"", table.ASK: good.ask or b"", table.ARK: good.ark or b""})
    return SevGuest(lambda data, level: forge.report(report_data=data, vmpl=level), held.encode())


def test_snp(tmp_path: Path) -> None:
    """The extended report verifies as it comes, with the certificates of the host."""
    forge = AmdForge()
    with device(tmp_path, guest(forge)) as path:
        driver = Snp(path)
        assert driver.available() is None
        parts = driver.endorse(DATA)
    vek, ask, ark = x509.split_pem(parts["certificates"], "certificates")

    claims = forge.verify(parts["report"], SnpEndorsements(vek=vek, ask=ask, ark=ark))
    assert claims.report_data == DATA


@pytest.mark.parametrize("held", [None, bytes(1 << 16)])
def test_snp_without_certificates(tmp_path: Path, held: bytes | None) -> None:
    """If the host refuses the extended request, or its table is too large, only the report comes."""
    tree = guest(AmdForge())
    tree.table = held
    with device(tmp_path, tree) as path:
        assert set(Snp(path).endorse(DATA)) == {"report"}


def test_snp_level(tmp_path: Path) -> None:
    """The requested privilege level is the report's; another one is refused."""
    forge = AmdForge()
    tree = guest(forge)
    with device(tmp_path, tree) as path:
        assert Snp(path, privilege_level=2).endorse(DATA)["report"][0x30] == 2
        tree.report = lambda data, level: forge.report(report_data=data, vmpl=1)
        with pytest.raises(UnavailableError, match="privilege level: want 2, got 1"):
            Snp(path, privilege_level=2).endorse(DATA)


def test_snp_firmware_refuses(tmp_path: Path) -> None:
    """A response with a status is an error of ours."""
    tree = guest(AmdForge())
    tree.report = lambda data, level: b""
    with device(tmp_path, tree) as path, pytest.raises(UnavailableError, match="report_size") as refused:
        Snp(path).endorse(DATA)
    assert refused.value.code == "driver_answer"


def test_snp_derived_key(tmp_path: Path) -> None:
    """The key depends on policy and measurement; a key of zeros is a refusal."""
    tree = guest(AmdForge())
    tree.key = b"k" * 32
    with device(tmp_path, tree) as path:
        assert Snp(path).seal_secret() == b"k" * 32
        tree.key = b""
        with pytest.raises(UnavailableError, match="derived key: the firmware refuses"):
            Snp(path).seal_secret()
    assert tree.key_requests[0] == (0, 0, 0b1001, 0, 0, 0)


def test_other_device(tmp_path: Path) -> None:
    """A device that has no such request, and one that does not exist."""
    with device(tmp_path, Other()) as path:
        with pytest.raises(UnavailableError, match="snp: request 0xc0205300: Inappropriate ioctl"):
            Snp(path).endorse(DATA)
        with pytest.raises(UnavailableError, match="tdx: request 0xc4405401: Inappropriate ioctl"):
            Tdx(path).endorse(DATA)
    for driver in (Snp(tmp_path / "none"), Tdx(tmp_path / "none")):
        assert "No such file" in str(driver.available())
        with pytest.raises(UnavailableError, match="No such file") as refused:
            driver.endorse(DATA)
        assert refused.value.exit_code == 7


class Service:
    """A host's quoting service: answers each connection once."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer

    def connect(self) -> socket.socket:
        mine, theirs = socket.socketpair()
        mine.settimeout(60)
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()
        return mine

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
            request = connection.recv(size, socket.MSG_WAITALL)
            assert struct.unpack_from("<HHIII", request) == (1, 0, 0, size, 0)
            assert struct.unpack_from("<II", request, 16) == (1024, 0)
            connection.sendall(self._answer(request[24:]))


def framed(quote: bytes, *, kind: int = 1, error: int = 0, major: int = 1, size: int | None = None) -> bytes:
    body = struct.pack("<II", 0, len(quote) if size is None else size) + quote
    message = struct.pack("<HHIII", major, 0, kind, 16 + len(body), error) + body
    return len(message).to_bytes(4, "big") + message


def tdreport(data: bytes) -> bytes:
    """A TDREPORT of a forger's domain over these report data."""
    made = AzureForge().tdreport()
    return dataclasses.replace(made, mac=dataclasses.replace(made.mac, report_data=data)).encode()


def test_tdx(tmp_path: Path) -> None:
    """The TDREPORT of the device goes to the service, and its quote verifies as it comes."""
    forge = TdxForge()
    seen = []

    def answer(report: bytes) -> bytes:
        seen.append(report)
        return framed(forge.quote(forge.td(report_data=report[128:192])))

    with device(tmp_path, TdxGuest(tdreport)) as path:
        parts = Tdx(path, Service(answer).connect).endorse(DATA)
    assert [len(report) for report in seen] == [1024]

    found = verify(parts["quote"], anchors=forge.anchors, collateral=forge.collateral(), now=forge.now)
    assert found.value.report_data == DATA


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "it hung up"),
        (b"\0\0\0\x18" + bytes(10), "it hung up"),
        (b"\xff\xff\xff\xff", "a message of 4294967295 bytes"),
        (b"\0\0\0\0", "a message of 0 bytes"),
        (framed(b"", error=0x12001), "error 0x12001"),
        (framed(b"", kind=3), "want version 1, type 1"),
        (framed(b"", major=2), "want version 1, type 1"),
        (framed(b"", size=9), "needs 9 bytes"),
        (framed(b"q", size=0), "1 bytes after the end"),
        (framed(b""), r"want 1\.\.65536 bytes, got 0"),
        (framed(b"q" * 100), "tdx: "),
    ],
)
def test_tdx_service(tmp_path: Path, answer: bytes, message: str) -> None:
    """Whatever the service answers is a quote of this report, or an error of this machine."""
    with (
        device(tmp_path, TdxGuest(tdreport)) as path,
        pytest.raises(UnavailableError, match=message) as refused,
    ):
        Tdx(path, Service(lambda _: answer).connect).endorse(DATA)
    assert refused.value.exit_code == 7


class Trickling(Service):
    """A service that sends a byte from time to time, and never ends."""

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall((1000).to_bytes(4, "big"))
            while True:
                connection.sendall(b"x")
                time.sleep(0.05)


def test_tdx_service_trickles(tmp_path: Path) -> None:
    """A host that keeps sending a little does not hold the guest for ever."""
    with (
        device(tmp_path, TdxGuest(tdreport)) as path,
        pytest.raises(UnavailableError, match="the host's quoting service: timed out") as refused,
    ):
        Tdx(path, Trickling(lambda _: b"").connect, seconds=0.5).endorse(DATA)
    assert refused.value.exit_code == 7


def test_tdx_quote_of_another_report(tmp_path: Path) -> None:
    """A quote over other report data is refused, and so is a TDREPORT over others."""
    forge = TdxForge()
    with device(tmp_path, TdxGuest(tdreport)) as path:
        service = Service(lambda _: framed(forge.quote(forge.td(report_data=b"o" * 64))))
        with pytest.raises(UnavailableError, match="report data: want 0001"):
            Tdx(path, service.connect).endorse(DATA)
    with (
        fuse.mounted(tmp_path / "other", TdxGuest(lambda _: tdreport(b"o" * 64)), apart=True) as root,
        pytest.raises(UnavailableError, match="report data: want 0001"),
    ):
        Tdx(root / "device", service.connect).endorse(DATA)


def test_tdx_without_a_service(tmp_path: Path) -> None:
    """Without vsock, or without a service, the error names the program that the host needs."""
    with (
        device(tmp_path, TdxGuest(tdreport)) as path,
        pytest.raises(UnavailableError, match="the host's quoting service") as refused,
    ):
        Tdx(path, connect_host).endorse(DATA)
    assert "qgsd" in str(refused.value.hint)


def nsm(forge: NitroForge) -> Nsm:
    """A module that makes documents."""

    def answer(request: bytes) -> bytes:
        asked = cbor2.loads(request)["Attestation"]
        assert set(asked) == {"user_data", "nonce", "public_key"}
        return cbor2.dumps({"Attestation": {"document": forge.document(user_data=asked["user_data"])}})

    return Nsm(answer)


def test_nsm(tmp_path: Path) -> None:
    """The document verifies as it comes, and its user data are ours."""
    forge = NitroForge()
    with device(tmp_path, nsm(forge)) as path:
        driver = Aws(path)
        assert driver.available() is None
        assert driver.kind() == "nitro"
        parts = driver.endorse(DATA)

    found = verify(parts["document"], anchors=forge.anchors, collateral=None, now=forge.now)
    assert found.value.report_data == DATA or Document.parse(parts["document"]).user_data == DATA


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (cbor2.dumps({"Error": "InternalError"}), "'InternalError'"),
        (cbor2.dumps({"Error": ""}), "want text of"),
        (cbor2.dumps("DescribeNSM"), "want a document"),
        (b"", "want a document"),
        (cbor2.dumps({"Attestation": {"document": b"x" * 40}}), "aws: "),
        (cbor2.dumps({"Attestation": {"document": 5}}), "want bytes"),
        (cbor2.dumps({"Attestation": {"document": b"x" * 300}})[:-1], "needs 300 bytes"),
        (cbor2.dumps({"Attestation": {"document": b"x" * 40}}) + b"\1", "1 bytes follow it"),
    ],
)
def test_nsm_answers(tmp_path: Path, answer: bytes, message: str) -> None:
    """Errors of the module, and answers that are malformed, are errors of this machine."""
    with (
        device(tmp_path, Nsm(lambda _: answer)) as path,
        pytest.raises(UnavailableError, match=message) as refused,
    ):
        Aws(path).endorse(DATA)
    assert refused.value.code == "driver_answer"


def test_nsm_document_of_others(tmp_path: Path) -> None:
    """A document over other user data is refused."""
    forge = NitroForge()
    other = cbor2.dumps({"Attestation": {"document": forge.document(user_data=b"other")}})
    with (
        device(tmp_path, Nsm(lambda _: other)) as path,
        pytest.raises(UnavailableError, match="user data: want 0001"),
    ):
        Aws(path).endorse(DATA)


def test_not_aws(tmp_path: Path) -> None:
    """Elsewhere the reason names what is missing."""
    driver = Aws(tmp_path / "nsm", vendor=tmp_path / "vendor")
    assert "this is no instance of Amazon EC2" in str(driver.available())
    (tmp_path / "vendor").write_text("QEMU\n")
    assert "this is no instance of Amazon EC2" in str(driver.available())


RECORDED = [one for one in vectors.found("nitro") if one.outcome == "valid"]


@pytest.mark.skipif(not RECORDED, reason=vectors.MISSING)
@pytest.mark.parametrize("vector", RECORDED, ids=lambda one: str(one.name))
def test_recorded_documents(tmp_path: Path, vector: vectors.Vector) -> None:
    """Genuine documents pass through the interface unchanged, up to the comparison of the user data."""
    document = vector.part("document")
    try:
        held = Document.parse(document).user_data
    except Exception:
        pytest.skip("not one of an enclave, bare")
    answer = cbor2.dumps({"Attestation": {"document": document}})
    with device(tmp_path, Nsm(lambda _: answer)) as path:
        if held is not None and len(held) == 64:
            assert Aws(path).endorse(held)["document"] == document
            return
        with pytest.raises(UnavailableError, match="user data: want"):
            Aws(path).endorse(DATA)
