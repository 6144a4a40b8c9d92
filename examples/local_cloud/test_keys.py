"""A program's test: it makes a key in the local cloud, and signs with it, by Azure's own client."""

import hashlib
import os

from azure.identity import CertificateCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm


def test_sign_and_verify() -> None:
    credential = CertificateCredential(
        os.environ["AZURE_TENANT_ID"],
        os.environ["AZURE_CLIENT_ID"],
        os.environ["AZURE_CLIENT_CERTIFICATE_PATH"],
        authority=os.environ["AZURE_AUTHORITY_HOST"],
        disable_instance_discovery=True,
    )
    key = KeyClient(os.environ["KLUIS_KEYVAULT_URL"], credential).create_ec_key("example")
    client = CryptographyClient(key, credential)
    digest = hashlib.sha256(b"a document").digest()
    signed = client.sign(SignatureAlgorithm.es256, digest)
    assert client.verify(SignatureAlgorithm.es256, digest, signed.signature).is_valid
    other = hashlib.sha256(b"another document").digest()
    assert not client.verify(SignatureAlgorithm.es256, other, signed.signature).is_valid
