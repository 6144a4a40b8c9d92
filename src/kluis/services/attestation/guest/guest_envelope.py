"""Encrypt a guest's token so that only the TPM that made the key can open it.

A fresh key encrypts the token, and the guest's key encrypts that key. Guests decrypt with RSAES-PKCS1-v1_5:
their TPM does it, and is not a padding oracle. Spec: Azure "Guest attestation of confidential VMs", client
library, ``TpmUnseal``.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kluis.errors import InternalError
from kluis.formats.encoding import b64
from kluis.formats.tpm.public import Public
from kluis.services.attestation.faults import InvalidParameter

ASSOCIATED: Final = b"Transport Key"
KEY_BYTES: Final = 32
IV_BYTES: Final = 12
TAG_BYTES: Final = 16


def enclose(token: str, key: Public) -> str:
    """Encrypt a token to a guest's key.

    Args:
        token: the plaintext.
        key: RSA, verified to be the guest's.

    Returns:
        Base64url of the envelope's JSON.

    Raises:
        InvalidParameter: the key cannot encrypt: its modulus or exponent is even, or too small.
    """
    secret, iv = os.urandom(KEY_BYTES), os.urandom(IV_BYTES)
    sealed = AESGCM(secret).encrypt(iv, token.encode(), ASSOCIATED)
    try:
        public = load_der_public_key(key.spki)
        if not isinstance(public, rsa.RSAPublicKey):
            raise InternalError("guest's key: is no RSA key")
        to_guest = public.encrypt(secret, padding.PKCS1v15())
    except ValueError:
        raise InvalidParameter("TpmInfo.EncKeyPub: want an RSA key to encrypt to, got another") from None
    envelope = {
        "EncryptedInnerKey": b64.encode(to_guest),
        "EncryptionParams": {
            "Iv": b64.encode(iv),
            "BlockMode": "ChainingModeGCM",
            "BlockPadding": "PKCS7",
            "Cipher": "AES",
            "KeySizeInBits": 8 * KEY_BYTES,
        },
        "AuthenticationData": b64.encode(sealed[-TAG_BYTES:]),
        "Jwt": b64.encode(sealed[:-TAG_BYTES]),
    }
    return b64.encode_url(msgspec.json.encode(envelope))
