"""The identity of a local cloud's user: a certificate, so that no environment needs a secret."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from kluis.errors import UsageError
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.variables import CLIENT
from kluis.serve.issuer import Certificate
from kluis.tee import keyfiles

LIFE: Final = timedelta(days=365)
# A certificate that ends during a run would lock its user out.
MARGIN: Final = timedelta(days=30)
BACKDATED: Final = timedelta(minutes=5)


def load_or_create(folder: Folder, now: datetime) -> Certificate:
    """The certificate of the client ``admin``; a new one if there is none that lasts another month.

    The file ``client.pem`` has the key and the certificate, as Azure's clients read them; mode 0600.

    Raises:
        UnavailableError: the file is another user's, or accessible to others.
    """
    if folder.client.exists():
        try:
            existing = Certificate.of_pem(keyfiles.read(folder.client), str(folder.client))
        except UsageError:
            pass  # damaged: nothing else depends on this key
        else:
            if existing.begin <= now <= existing.end - MARGIN:
                return existing
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CLIENT)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFE)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    folder.write(folder.client, pem + certificate.public_bytes(Encoding.PEM))
    return Certificate.of_pem(certificate.public_bytes(Encoding.PEM), str(folder.client))
