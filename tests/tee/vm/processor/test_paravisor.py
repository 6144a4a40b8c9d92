"""What a paravisor leaves in a vTPM: evidence of Azure's form, under the emulated root, of one machine."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from kluis.errors import AuthenticityError, UnavailableError
from kluis.evidence import AzureEndorsements, SnpEndorsements, TrustAnchors, verify
from kluis.evidence.azure.claims import AzureClaims
from kluis.formats import x509
from kluis.formats.hcl.vtpm import AK
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.kluis.processor_port import CERTIFICATES, KEY, REPORT, SIZES
from kluis.formats.tpm.command import OWNER
from kluis.tee.drivers.azure import Azure
from kluis.tee.tpm import keys
from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.transport import Transport
from kluis.tee.vm.machine import tpm as vtpm
from kluis.tee.vm.processor import answer, measured, paravisor
from tests.authority.amd.chips import GUEST, chip

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="apt-get install swtpm")
SECRET, NONCE = bytes(range(32)), bytes(range(32, 64))
PROCESSOR = chip(now=datetime.now(UTC))
LAUNCH = measured.describe_launch(GUEST)
NAMES = {"hcl_report": "hcl", "tpm_quote": "quote", "tpm_signature": "signature", "pcrs": "pcrs"}


class Machine:
    """A vTPM that a paravisor prepared."""

    def __init__(self, folder: Path) -> None:
        self.state = folder

    def prepare(self) -> None:
        """As before each start."""
        with vtpm.power(self.state, SECRET) as own, Tpm(Transport(own.commands)) as before:
            paravisor.leave(before, PROCESSOR, LAUNCH)

    def evidence(self) -> dict[str, bytes]:
        """What the driver gets inside."""
        certificates = {"certificates": PROCESSOR.certificates(), "crl": PROCESSOR.crl(datetime.now(UTC))}
        driver = Azure(self._open, event_log=Path("/nonexistent"), certificates=lambda: certificates)
        return dict(driver.endorse(NONCE + bytes(32)))

    def _open(self) -> Tpm:
        return _Once(self)


class _Once(Tpm):
    """A TPM that is powered for one use; its NV indices remain."""

    def __init__(self, machine: Machine) -> None:
        self._use = vtpm.power(machine.state, SECRET)
        super().__init__(Transport(self._use.__enter__().commands))

    def __exit__(self, *_: object) -> None:
        super().__exit__(*_)
        self._use.__exit__(None, None, None)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Prepared once."""
    found = Machine(tmp_path_factory.mktemp("machine") / "tpm")
    found.prepare()
    return found


def check(parts: dict[str, bytes]) -> AzureClaims:
    """Verify it only under the processor's root."""
    vek, ask, ark = x509.split_pem(parts["certificates"], "certificates", most=3)
    claims = verify(
        Collection({new: Part(OCTETS, parts[old]) for new, old in NAMES.items()}).encode(),
        anchors=TrustAnchors.from_pem(PROCESSOR.root_pem()),
        collateral=AzureEndorsements(snp=SnpEndorsements(vek=vek, ask=ask, ark=ark, crl=parts["crl"])),
        now=datetime.now(UTC),
    ).value
    assert claims.nonce == NONCE
    assert (claims.measurement.value, str(claims.level)) == (GUEST, "vm")
    return cast("AzureClaims", claims.vendor)


def test_its_evidence_is_azures(machine: Machine) -> None:
    """The driver of Azure reads it, and the verifier of Azure accepts it, with the level of the root."""
    found = check(machine.evidence())

    assert found.user_data is None
    assert found.configuration["secure-boot"] is False


@pytest.mark.skipif(shutil.which("tpm2_checkquote") is None, reason="apt-get install tpm2-tools")
def test_others_read_the_quote(machine: Machine, tmp_path: Path) -> None:
    """tpm2_checkquote accepts the quote under the key that the report names, and refuses another nonce."""
    parts = machine.evidence()
    key = check(parts).key
    (tmp_path / "ak.pem").write_bytes(x509.write_pem(key, "PUBLIC KEY"))
    for name in ("quote", "signature"):
        (tmp_path / name).write_bytes(parts[name])
    line = ["tpm2_checkquote", "-u", "ak.pem", "-m", "quote", "-s", "signature", "-g", "sha256", "-q"]
    for nonce, accepted in ((NONCE, True), (bytes(32), False)):
        done = subprocess.run([*line, nonce.hex()], cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode == 0) is accepted, done.stderr


def test_a_guests_key_is_removed(machine: Machine) -> None:
    """A key that an earlier guest left at the paravisor's handle is not the one that the report names."""
    with machine._open() as tpm:
        tpm.persist(AK, AK)
        with tpm.holding(tpm.create_primary(OWNER, keys.RSA_ATTESTATION.encode())) as handle:
            tpm.persist(handle, AK)
            planted = tpm.read_public(AK).spki
    with pytest.raises(UnavailableError, match="azure: attestation key: want"):
        machine.evidence()

    machine.prepare()

    assert check(machine.evidence()).key != planted


def test_another_machines_report(machine: Machine, tmp_path: Path) -> None:
    """The report of one machine with the quote of another is refused: it names another key."""
    other = Machine(tmp_path / "tpm")
    other.prepare()
    parts = {**machine.evidence(), "hcl": other.evidence()["hcl"]}

    with pytest.raises(AuthenticityError):
        check(parts)


@pytest.mark.parametrize("kind", [REPORT, KEY])
def test_a_guest_under_a_paravisor(kind: bytes) -> None:
    """It gets certificates, but neither a report nor a key: its measurement is that of any guest."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=answer, args=(theirs, PROCESSOR, None), daemon=True)
    thread.start()
    with ours:
        ours.settimeout(60)
        ours.sendall(CERTIFICATES)
        assert ours.recv(4, socket.MSG_WAITALL) == len(PROCESSOR.certificates()).to_bytes(4, "little")
        ours.recv(len(PROCESSOR.certificates()), socket.MSG_WAITALL)
        size = int.from_bytes(ours.recv(4, socket.MSG_WAITALL), "little")
        ours.recv(size, socket.MSG_WAITALL)

        ours.sendall(kind + bytes(SIZES[kind]))

        with contextlib.suppress(ConnectionResetError):
            assert ours.recv(1) == b""
    thread.join(60)
