"""A client of a ledger that runs: its certificate, which the ledger has as an administrator's."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kluis.ledger.certificates import member_certificate
from kluis.serve.ledger.governing import member_id
from kluis.services.clock import SystemClock


class Client(NamedTuple):
    """A client's files in a state folder.

    Attributes:
        state: of the ledger.
        pem: certificate and key.
        settings: a file for ``--settings``, with the client as an administrator.
        given: the same as a mapping.
    """

    state: Path
    pem: Path
    settings: Path
    given: dict[str, dict[str, object]]

    @classmethod
    def create(cls, state: Path) -> Client:
        """A client of the ledger that will be founded in ``state``."""
        key = ec.generate_private_key(ec.SECP384R1())
        certificate = member_certificate(key, SystemClock().now(), name="client")
        pem, settings = state / "client.pem", state / "settings.json"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem.write_bytes(certificate.encode() + private)
        principals = [{"id": member_id(certificate), "roles": ["Administrator"]}]
        given: dict[str, dict[str, object]] = {"ledger": {"principals": principals}}
        settings.write_text(json.dumps(given))
        return cls(state, pem, settings, given)

    def context(self) -> ssl.SSLContext:
        """TLS with the client's certificate that trusts the ledger's service only."""
        context = ssl.create_default_context(cafile=str(self.state / "service_cert.pem"))
        context.load_cert_chain(self.pem)
        return context
