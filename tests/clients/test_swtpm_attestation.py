"""A real TPM 2.0, in software, answers the challenge: its own quote is over the key and the challenge."""

from __future__ import annotations

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
from kluis.formats.tpm.public import Public
from tests.clients.test_swtpm import LACKING, SoftwareTpm
from tests.formats.eventlog.logs import log
from tests.services.attestation.conftest import storage
from tests.services.attestation.tpm.client import KEY, PERMIT, Client, jwk_text, world_of
from tests.services.attestation.vm import BANKS, MAKER, boot
from tests.services.attestation.world import b64u

__all__ = ["storage"]

pytestmark = pytest.mark.skipif(
    bool(LACKING), reason=f"not installed: {LACKING}; apt-get install swtpm tpm2-tools"
)
ALL = "sha256:" + ",".join(map(str, range(24)))


@pytest.fixture(scope="module")
def tpm() -> Iterator[SoftwareTpm]:
    """A TPM that has seen a start."""
    with tempfile.TemporaryDirectory(prefix="tpm-") as folder:
        made = SoftwareTpm(Path(folder))
        made.extend(*boot())
        yield made
        made.stop()


def said(tpm: SoftwareTpm, area: Public, extra: bytes) -> dict[str, Any]:
    """The TPM's statement, over ``extra``."""
    tpm.run("quote", "-c", "ak.ctx", "-l", ALL, "-q", extra.hex(), "-g", "sha256", "--scheme", "rsassa",
            "-m", "msg", "-s", "sig", "-o", "pcrs")  # fmt: skip
    key = load_der_public_key(area.spki)
    assert isinstance(key, rsa.RSAPublicKey)
    values = pcrs.parse(tpm.read("pcrs"))[HashId.SHA256]
    certificate = MAKER.ak(key).public_bytes(Encoding.DER)
    return {
        "logs": [{"type": "TCG", "log": b64u(log(*boot(), banks=BANKS).encode())}],
        "aik_cert": b64u(certificate),
        "aik_pub": {"kty": "RSA", "n": b64u(key.public_numbers().n.to_bytes(256, "big")), "e": "AQAB"},
        "pcrs": [
            {"algorithm": 11, "values": [{"index": i, "digest": b64u(value)} for i, value in values.items()]}
        ],
        "quote": b64u(tpm.read("msg")),
        "signature": b64u(tpm.read("sig")),
    }


def test_a_real_tpm(tpm: SoftwareTpm, storage: Any) -> None:
    """The report confirms the request's key; a quote over another challenge is refused."""
    world = world_of(storage)
    rules = 'c:[type=="secureBootEnabled"] => issue(type="secure", value=c.value);'
    world.set_policy("Tpm", PERMIT.replace("ISSUE", rules))
    client = Client(world)
    area = tpm.make_ak("rsa", "rsassa")
    good = said(tpm, area, client.bound(jwk_text(KEY)))
    claims = client.report(client.v2(alter=lambda each: each.update(good)))
    assert claims["secure"] is True
    assert claims["cnf"] == {"jwk": json.loads(jwk_text(KEY))}
    assert claims["x-kluis-protection"] == "vtpm"
    other = said(tpm, area, bytes(32))
    code, message = client.refused(client.v2(alter=lambda each: each.update(other)))
    assert code == "InvalidParameter"
    assert message.startswith("TPM quote: qualifying data: want ")
