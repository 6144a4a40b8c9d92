"""A vTPM as the host of an emulated processor leaves it: its guest gets the tokens of one on Azure."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.enclave.store import SealedStore
from kluis.formats.hcl import report as hcl
from kluis.formats.hcl.vtpm import AK, REPORT
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import NULL, HashId
from kluis.formats.tpm.attest import encode_sized, read_sized
from kluis.formats.tpm.command import ENDORSEMENT, Authorization
from kluis.formats.tpm.public import Attribute, RsaPublic
from kluis.hashes import sha256
from kluis.services.attestation.settings import Root
from kluis.tee.tpm import quoting
from kluis.tee.tpm.stored import nv_bytes
from kluis.tee.tpm.tpm import Tpm, _reader
from kluis.tee.tpm.transport import Transport
from kluis.tee.vm.machine import tpm as vtpm
from kluis.tee.vm.processor import measured, paravisor
from tests.authority.amd.chips import GUEST, chip
from tests.evidence.tpm.forge import area
from tests.formats.eventlog.logs import log
from tests.services.attestation.vm import BANKS, GOOD, KEY, OWN, PCRS, b64, boot, opened, request
from tests.services.attestation.world import World, b64u, claims_of, from_b64u
from tests.services.web.issuer import FixedClock

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="apt-get install swtpm")
NOW = datetime.now(UTC)
PROCESSOR = chip(now=NOW)
SECRET = bytes(range(32))
RSAES = 0x15
VALIDATED = {name: frozenset({sha256(value)}) for name, value in GOOD.items()}
NO_AUTH = Authorization()


class More(enum.IntEnum):
    """Commands of a guest's client. Spec: TCG "TPM 2.0 Library Part 3: Commands"."""

    CERTIFY = 0x148
    RSA_DECRYPT = 0x159


@pytest.fixture
def guests(storage: SealedStore) -> World:
    """A service that trusts the emulated processor, because its root was named."""
    return World(
        storage,
        clock=FixedClock(NOW),
        roots=(Root(PROCESSOR.root_pem()),),
        collateral=(),
        secure_boot_variables=VALIDATED,
    )


def prepared(folder: Path) -> Path:
    """The folder of a vTPM, as before a boot."""
    with vtpm.power(folder, SECRET) as own, Tpm(Transport(own.commands)) as tpm:
        paravisor.leave(tpm, PROCESSOR, measured.describe_launch(GUEST))
    return folder


def test_a_guest(guests: World, tmp_path: Path) -> None:
    """AzureGuest: only this vTPM opens the token, and it names the machine's launch digest."""
    template = area(KEY, OWN | Attribute.USER_WITH_AUTH)
    assert isinstance(template.key, RsaPublic)
    blank = dataclasses.replace(template.key, exponent=0, modulus=b"\x80" + bytes(255))
    with vtpm.power(prepared(tmp_path / "tpm"), SECRET) as own, Tpm(Transport(own.commands)) as tpm:
        for each in boot():
            digest = each.digest(HashId.SHA256)
            assert digest is not None
            tpm.extend(each.index, digest)
        report = hcl.parse(nv_bytes(tpm, REPORT, hcl.MAX_SIZE))
        quoted = quoting.quote(tpm, AK, b"", PCRS)
        values = pcrs.parse(quoted.pcrs)[HashId.SHA256]
        key = tpm.create_primary(ENDORSEMENT, dataclasses.replace(template, key=blank).encode())
        with tpm.holding(key):
            made = tpm.read_public(key)
            certified, signed = certify(tpm, key)
            proof = {"SnpReport": b64u(report.hardware), "VcekCertChain": b64u(PROCESSOR.certificates())}
            info = {
                "AttestationProtocolVersion": "2.0", "OSType": b64(b"Linux"), "OSDistro": b64(b"Debian"),
                "OSBuild": b64(b"NotApplicable"), "OSVersionMajor": 13, "OSVersionMinor": 0,
                "TcgLogs": b64(log(*boot(), banks=BANKS).encode()),
                "ClientPayload": {"nonce": b64(b"fresh")},
                "TpmInfo": {
                    "AikCert": "", "AikPub": b64(tpm.read_public(AK).encode()),
                    "PcrQuote": b64(quoted.message), "PcrSignature": b64(quoted.signature),
                    "PcrSet": list(PCRS), "PCRs": [{"Index": i, "Digest": b64(values[i])} for i in PCRS],
                    "EncKeyPub": b64(made.encode()), "EncKeyCertifyInfo": b64(certified),
                    "EncKeyCertifyInfoSignature": b64(signed),
                },
                "IsolationInfo": {"Type": "SevSnp", "Evidence": {
                    "Proof": b64(json.dumps(proof).encode()), "RunTimeData": b64(report.runtime),
                }},
            }  # fmt: skip

            answer = guests.attest("AzureGuest", request(info))

            assert answer.status_code == 200, answer.text
            envelope = json.loads(from_b64u(answer.json()["token"]))
            inner = decrypt(tpm, key, from_b64(envelope["EncryptedInnerKey"]))
    claims = guests.verified(opened(envelope, inner))
    tee = claims["x-ms-isolation-tee"]
    assert tee["x-ms-sevsnpvm-launchmeasurement"] == GUEST.hex()
    assert tee["x-ms-attestation-type"] == "sevsnpvm"
    assert (claims["x-kluis-protection"], claims["x-kluis-emulated"]) == ("vm", True)


def test_the_report_by_itself(guests: World, tmp_path: Path) -> None:
    """SevSnpVm: the same report and runtime data, without the vTPM's quote."""
    with vtpm.power(prepared(tmp_path / "tpm"), SECRET) as own, Tpm(Transport(own.commands)) as tpm:
        report = hcl.parse(nv_bytes(tpm, REPORT, hcl.MAX_SIZE))
    proof = {"SnpReport": b64u(report.hardware), "VcekCertChain": b64u(PROCESSOR.certificates())}
    body = {
        "report": b64u(json.dumps(proof).encode()),
        "runtimeData": {"data": b64u(report.runtime), "dataType": "JSON"},
    }

    answer = guests.attest("SevSnpVm", body)

    assert answer.status_code == 200, answer.text
    claims: dict[str, Any] = claims_of(answer.json()["token"])
    assert claims["x-ms-sevsnpvm-launchmeasurement"] == GUEST.hex()


def certify(tpm: Tpm, key: int) -> tuple[bytes, bytes]:
    """A statement of the attestation key about another key, and its signature."""
    response = tpm.run(
        More.CERTIFY,  # type: ignore[arg-type]
        (key, AK),
        encode_sized(b"") + NULL.to_bytes(2, "big"),
        auth=(NO_AUTH, NO_AUTH),
    )
    r = _reader(response)
    certified = read_sized(r, "certified", 1024)
    return certified, r.take(r.left, "signature")


def decrypt(tpm: Tpm, key: int, data: bytes) -> bytes:
    """What was encrypted to a key of the vTPM."""
    parameters = encode_sized(data) + RSAES.to_bytes(2, "big") + encode_sized(b"")
    response = tpm.run(More.RSA_DECRYPT, (key,), parameters, auth=(NO_AUTH,))  # type: ignore[arg-type]
    return read_sized(_reader(response), "message", 256)


def from_b64(text: str) -> bytes:
    """Bytes of standard base64."""
    return base64.b64decode(text)
