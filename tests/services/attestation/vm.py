"""Azure VMs made by hand: forged hardware, a TPM of keys in this process, and what a guest's client sends."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.formats.eventlog.event_data import GLOBAL_VARIABLES, Variable
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import Event
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Selection
from kluis.formats.tpm.certify import Certification
from kluis.formats.tpm.public import Attribute
from kluis.hashes import sha256
from tests.evidence.tpm.forge import CLOCK, Maker, area, quote, rsa_key, sign
from tests.formats.eventlog.logs import event, log
from tests.formats.hcl.reports import runtime_json
from tests.services.attestation.world import AMD, TDX, b64u, from_b64u

SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
OWN = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN | Attribute.DECRYPT
PCRS = (0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13)
BANKS = (HashId.SHA256,)
GOOD = {"PK": b"pk", "KEK": b"kek", "db": b"db", "dbx": b"dbx"}
MAKER = Maker()


def b64(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def variable(name: str, value: bytes) -> Event:
    """A variable of secure boot, as firmware measures it."""
    vendor = SECURITY if name.startswith("db") else GLOBAL_VARIABLES
    data = Variable(vendor, name, value).encode()
    return event(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, data, banks=BANKS)


def sipa(*events: tuple[int, bytes]) -> Event:
    """A tagged event of Windows'."""
    data = b"".join(
        kind.to_bytes(4, "little") + len(value).to_bytes(4, "little") + value for kind, value in events
    )
    return event(12, EventType.EVENT_TAG, data, banks=BANKS)


def boot(secure: bytes = b"\1", *more: Event, **variables: bytes) -> tuple[Event, ...]:
    """A start: variables, separators, and what comes after."""
    named = [("SecureBoot", secure), *(GOOD | variables).items()]
    return (
        *(variable(name, value) for name, value in named),
        *(event(index, EventType.SEPARATOR, bytes(4), banks=BANKS) for index in range(8)),
        *more,
    )


class Vm:
    """One VM with a vTPM.

    Args:
        events: of its start.
        runtime: changes of its runtime data's configuration.
    """

    def __init__(self, events: tuple[Event, ...] = boot(), **configuration: Any) -> None:
        self.ak, self.key = AK, KEY
        modulus = self.ak.public_key().public_numbers().n
        given = {"vm_configuration": configuration} if configuration else {}
        self.runtime = runtime_json(modulus, **given)
        self.log = log(*events, banks=BANKS).encode()
        values = {index: bytes(32) for index in range(24)}
        for each in events:
            digest = each.digest(HashId.SHA256)
            assert digest is not None
            values[each.index] = sha256(values[each.index] + digest)
        self.values = {HashId.SHA256: values}
        self.report_data = sha256(self.runtime) + bytes(32)

    def snp(self, **changes: Any) -> dict[str, Any]:
        """Isolation by SNP."""
        report = AMD.report(**{"report_data": self.report_data, "vmpl": 0, **changes})
        chain = b"".join(each.public_bytes(Encoding.PEM) for each in (AMD.vek, AMD.ask, AMD.ark))
        proof = json.dumps({"SnpReport": b64u(report), "VcekCertChain": b64u(chain)}).encode()
        return {"Type": "SevSnp", "Evidence": {"Proof": b64(proof), "RunTimeData": b64(self.runtime)}}

    def tdx(self, **changes: Any) -> dict[str, Any]:
        """Isolation by TDX."""
        td = TDX.quote(TDX.td(**{"report_data": self.report_data, **changes}))
        return {"Type": "Tdx", "Evidence": {"Proof": b64(td), "RunTimeData": b64(self.runtime)}}

    def info(self, isolation: dict[str, Any] | None = None, **tpm: Any) -> dict[str, Any]:
        """What the client sends, before it is encoded, with parts of the TPM's replaced."""
        public = area(self.key, OWN | Attribute.USER_WITH_AUTH)
        certified = Certification(
            qualified_signer=b"\0\x0b" + bytes(32), extra_data=b"", clock=CLOCK, name=public.name,
            qualified_name=public.name,
        ).encode()  # fmt: skip
        message = quote(self.values, (Selection.of(HashId.SHA256, *PCRS),), nonce=b"").encode()
        given = {
            "AikCert": "",
            "AikPub": b64(area(self.ak).encode()),
            "PcrQuote": b64(message),
            "PcrSignature": b64(sign(self.ak, message).encode()),
            "PcrSet": list(PCRS),
            "PCRs": [{"Index": index, "Digest": b64(self.values[HashId.SHA256][index])} for index in PCRS],
            "EncKeyPub": b64(public.encode()),
            "EncKeyCertifyInfo": b64(certified),
            "EncKeyCertifyInfoSignature": b64(sign(self.ak, certified).encode()),
            **tpm,
        }
        return {
            "AttestationProtocolVersion": "2.0",
            "OSType": b64(b"Linux"),
            "OSDistro": b64(b"Debian"),
            "OSBuild": b64(b"NotApplicable"),
            "OSVersionMajor": 13,
            "OSVersionMinor": 0,
            "TcgLogs": b64(self.log),
            "ClientPayload": {"nonce": b64(b"fresh")},
            "TpmInfo": given,
            "IsolationInfo": self.snp() if isolation is None else isolation,
        }

    def open(self, envelope: str) -> str:
        """The token in an envelope, as the guest's TPM opens it."""
        return unseal(json.loads(from_b64u(envelope)), self.key)


def request(info: dict[str, Any]) -> dict[str, Any]:
    """The body of a request."""
    return {"AttestationInfo": b64u(json.dumps(info).encode())}


def unseal(envelope: dict[str, Any], key: rsa.RSAPrivateKey) -> str:
    """The token in an envelope, by the key as it is."""
    inner = key.decrypt(base64.b64decode(envelope["EncryptedInnerKey"]), padding.PKCS1v15())
    return opened(envelope, inner)


def opened(envelope: dict[str, Any], inner: bytes) -> str:
    """The token in an envelope, by the inner key, as Azure's client library reads it."""
    parameters = envelope["EncryptionParams"]
    assert {name: parameters[name] for name in ("BlockMode", "BlockPadding", "Cipher", "KeySizeInBits")} == {
        "BlockMode": "ChainingModeGCM", "BlockPadding": "PKCS7", "Cipher": "AES", "KeySizeInBits": 256,
    }  # fmt: skip
    sealed = base64.b64decode(envelope["Jwt"]) + base64.b64decode(envelope["AuthenticationData"])
    return AESGCM(inner).decrypt(base64.b64decode(parameters["Iv"]), sealed, b"Transport Key").decode()


AK, KEY = rsa_key(), rsa_key()
