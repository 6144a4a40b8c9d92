"""A real TPM 2.0, in software, is attested as an Azure guest's: it certifies its key, and opens its token."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import HashId
from kluis.hashes import sha256
from kluis.services.attestation.settings import VARIABLES
from tests.clients.test_swtpm import LACKING, SoftwareTpm
from tests.formats.eventlog.logs import log
from tests.formats.hcl.reports import runtime_json
from tests.services.attestation.conftest import storage
from tests.services.attestation.guest.test_guests import VALIDATED
from tests.services.attestation.vm import BANKS, b64, boot, opened, request
from tests.services.attestation.world import AMD, World, b64u, from_b64u

__all__ = ["storage"]

pytestmark = pytest.mark.skipif(
    bool(LACKING), reason=f"not installed: {LACKING}; apt-get install swtpm tpm2-tools"
)
INDICES = (0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13)


@pytest.fixture(scope="module")
def tpm() -> Iterator[SoftwareTpm]:
    """A TPM that has seen a start, with an attestation key and another key."""
    with tempfile.TemporaryDirectory(prefix="tpm-") as folder:
        made = SoftwareTpm(Path(folder))
        made.extend(*boot())
        made.make_ak("rsa", "rsassa")
        made.run("createprimary", "-C", "o", "-c", "primary.ctx")
        made.run("create", "-C", "primary.ctx", "-G", "rsa2048", "-u", "key.pub", "-r", "key.priv",
                 "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|decrypt")  # fmt: skip
        made.run("load", "-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
        made.run(
            "certify", "-c", "key.ctx", "-C", "ak.ctx", "-g", "sha256", "-o", "certify", "-s", "certify.sig"
        )
        selected = "sha256:" + ",".join(map(str, INDICES))
        made.run("quote", "-c", "ak.ctx", "-l", selected, "-g", "sha256", "--scheme", "rsassa",
                 "-m", "msg", "-s", "sig", "-o", "pcrs")  # fmt: skip
        yield made
        made.stop()


def info(tpm: SoftwareTpm) -> dict[str, Any]:
    """What a guest's client sends of this TPM, on forged hardware that is bound to its attestation key."""
    from kluis.evidence.tpm.key import area_of

    ak = load_der_public_key(area_of(tpm.read("ak.pub")).spki)
    assert isinstance(ak, rsa.RSAPublicKey)
    runtime = runtime_json(ak.public_numbers().n)
    report = AMD.report(report_data=sha256(runtime) + bytes(32), vmpl=0)
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (AMD.vek, AMD.ask, AMD.ark))
    proof = json.dumps({"SnpReport": b64u(report), "VcekCertChain": b64u(chain)}).encode()
    values = pcrs.parse(tpm.read("pcrs"))[HashId.SHA256]
    return {
        "AttestationProtocolVersion": "2.0",
        "OSType": b64(b"Linux"),
        "OSDistro": b64(b"Debian"),
        "OSBuild": b64(b""),
        "OSVersionMajor": 13,
        "OSVersionMinor": 1,
        "TcgLogs": b64(log(*boot(), banks=BANKS).encode()),
        "ClientPayload": {"nonce": b64(b"fresh")},
        "TpmInfo": {
            "AikCert": "",
            "AikPub": b64(tpm.read("ak.pub")),
            "PcrQuote": b64(tpm.read("msg")),
            "PcrSignature": b64(tpm.read("sig")),
            "PcrSet": list(INDICES),
            "PCRs": [{"Index": index, "Digest": b64(value)} for index, value in values.items()],
            "EncKeyPub": b64(tpm.read("key.pub")),
            "EncKeyCertifyInfo": b64(tpm.read("certify")),
            "EncKeyCertifyInfoSignature": b64(tpm.read("certify.sig")),
        },
        "IsolationInfo": {
            "Type": "SevSnp",
            "Evidence": {"Proof": b64(proof), "RunTimeData": b64(runtime)},
        },
    }


def test_a_token_for_a_real_tpm(tpm: SoftwareTpm, storage: Any) -> None:
    """The TPM's own quote, certification and log hold; its key, which never leaves it, opens the token."""
    world = World(storage, secure_boot_variables=VALIDATED)
    answer = world.attest("AzureGuest", request(info(tpm)))
    assert answer.status_code == 200, answer.text
    envelope = json.loads(from_b64u(answer.json()["token"]))
    (tpm.folder / "inner").write_bytes(base64.b64decode(envelope["EncryptedInnerKey"]))
    tpm.run("rsadecrypt", "-c", "key.ctx", "-s", "rsaes", "-o", "opened", "inner")
    claims = world.verified(opened(envelope, tpm.read("opened")))
    assert claims["secureboot"] is True
    assert claims["x-ms-azurevm-osdistro"] == "Debian"
    assert claims["x-ms-isolation-tee"]["x-ms-attestation-type"] == "sevsnpvm"
    assert set(VARIABLES) == set(VALIDATED)


def test_a_log_that_the_tpm_denies(tpm: SoftwareTpm, storage: Any) -> None:
    """A log of another start, however well made, does not replay to what this TPM quoted."""
    world = World(storage, secure_boot_variables=VALIDATED)
    given = info(tpm) | {"TcgLogs": b64(log(*boot(db=b"other"), banks=BANKS).encode())}
    answer = world.attest("AzureGuest", request(given))
    assert answer.status_code == 400
    assert "event log: want PCRs as they were quoted" in answer.json()["error"]["message"]
