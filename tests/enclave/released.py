"""A vault in a forged enclave, an authority that certifies anyone, and a courier between them."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from kluis.enclave import Evidence, ExpectedVault, VaultEvidence
from kluis.formats.encoding import b64
from kluis.formats.kluis import runtime_data
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from tests.evidence.forge import IMAGE, Forge
from tests.services.keyvault.world import World, claims, sign
from tests.services.web.issuer import NOW, FixedClock


class ReleasingVault:
    """A vault whose signing key is bound to its enclave.

    Args:
        forge: the platform.
        settings: of its world.
    """

    def __init__(self, forge: Forge, **settings: Any) -> None:
        self.forge = forge
        self.world = World(clock=FixedClock(NOW), vouch=self._vouch, **settings)
        self.configuration = self.world.ok("GET", "/configuration", api=None)

    def _vouch(self, payload: bytes) -> EvidenceBundle:
        document = RuntimeData(purpose=Purpose.APP, image_id=IMAGE, nonce=b"", payload=payload).encode()
        quote = self.forge.quote(self.forge.body(report_data=runtime_data.report_data(document)))
        return EvidenceBundle(quote, document, self.forge.launch)

    def brought(self) -> VaultEvidence:
        """What an honest host brings along."""
        certificate = base64.b64decode(self.configuration["signingCertificate"])
        return VaultEvidence(certificate, self.forge.collateral().to_json())

    def expected(self, **changes: Any) -> bytes:
        """What an application that expects this vault has in its image."""
        given: dict[str, Any] = {
            "vault": self.configuration["vault"],
            "roots": (self.forge.authority.root_pem().decode(),),
            "images": (IMAGE.hex(),),
            "levels": ("process",),
            **changes,
        }
        return ExpectedVault(**given).encode()

    def keep(self, material: bytes, name: str = "k") -> str:
        """Keep an oct key; the hash of its material."""
        asked = {
            "key": {"kty": "oct-HSM", "k": b64.encode_url(material), "key_ops": ["encrypt"]},
            "attributes": {"exportable": True},
            "release_policy": {"data": b64.encode_url(POLICY)},
        }
        self.world.ok("PUT", f"/keys/{name}", asked)
        return hashlib.sha256(material).hexdigest()

    def release(self, offer: Evidence, name: str = "k", **more: Any) -> str:
        """Release a key to the given offer."""
        answer = self.world.release(token(offer), name, **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["value"])


POLICY = json.dumps({
    "version": "1.0.0",
    "anyOf": [{
        "authority": claims()["iss"],
        "allOf": [{"claim": "x-ms-runtime.purpose", "equals": "release-key"}],
    }],
}).encode()  # fmt: skip


def token(offer: Evidence) -> str:
    """The token of an authority that copies the runtime data, as attestation services do."""
    return sign(claims(**{"x-ms-runtime": json.loads(offer.runtime_data)}))
