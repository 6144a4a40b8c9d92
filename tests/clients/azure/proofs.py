"""What clients show the development issuer instead of secrets: certificates, and a cluster's account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.serve.issuer.asserting import CLUSTER, SUBJECT, Client, document, key_of

__all__ = ["Proofs"]


class Proofs:
    """Files of them, and the options of ``kluis serve`` that register them.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        self._certificates = {name: folder / f"{name}.pem" for name in ("workload", "reader")}
        for name, path in self._certificates.items():
            client = Client(name, begin=now - timedelta(days=1), end=now + timedelta(days=1))
            path.write_bytes(client.both)
        self._account, self._key = folder / "account.json", folder / "cluster.pem"
        self._account.write_bytes(document())
        key = key_of("cluster").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._key.write_bytes(key)

    def options(self) -> list[str]:
        """As ``kluis serve`` takes them."""
        words = ["--federated", str(self._account), "--insecure-managed-identity"]
        for name, path in self._certificates.items():
            words += ["--client-certificate", f"{name}={path}"]
        return words

    def told(self, addresses: dict[str, str]) -> dict[str, Any]:
        """What a runner needs of them so that its clients can present them."""
        return {
            "certificates": {name: str(path) for name, path in self._certificates.items()},
            "cluster": {"issuer": CLUSTER, "subject": SUBJECT, "kid": "one", "key": str(self._key)},
            "machine": addresses["insecure_managed_identity"],
            "application": f"{addresses['issuer']}/msi/token",
        }
