"""Encrypt and wrap with one opened key, using the algorithms of Azure's clients.

Every failed decryption has the same message, whatever the cause. RSA1_5 and unauthenticated CBC are supported
because clients have data encrypted with them; a caller who may decrypt has a padding oracle by definition.

Spec: RFC 7518, "Cryptographic Algorithms for Key Management"; RFC 3394, RFC 5649 (AES key wrap); NIST SP
800-38A (CBC), 800-38D (GCM).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

from kluis.services.keyvault.crypto import material
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.vault.records import KeyVersion

RSA: Final = ("RSA1_5", "RSA-OAEP", "RSA-OAEP-256")
_GCM: Final = {"A128GCM": 128, "A192GCM": 192, "A256GCM": 256}
_CBC: Final = {"A128CBC": 128, "A192CBC": 192, "A256CBC": 256}
_PADDED: Final = {"A128CBCPAD": 128, "A192CBCPAD": 192, "A256CBCPAD": 256}
_WRAP: Final = {"A128KW": 128, "A192KW": 192, "A256KW": 256, "CKM_AES_KEY_WRAP": 0}
_WRAP_PAD: Final = {"CKM_AES_KEY_WRAP_PAD": 0}
CONTENT: Final = (*RSA, *_GCM, *_CBC, *_PADDED)
WRAPPING: Final = (*RSA, *_WRAP, *_WRAP_PAD)
NONCE, TAG, BLOCK = 12, 16, 16


class Sealed(NamedTuple):
    """A ciphertext, and everything apart from the key that decryption needs.

    Attributes:
        value: the ciphertext.
        iv: 12 bytes, generated for it (GCM), or the caller's (CBC).
        tag: 16 bytes (GCM).
        aad: the caller's data to authenticate.
    """

    value: bytes
    iv: bytes | None = None
    tag: bytes | None = None
    aad: bytes | None = None


def encrypt(
    version: KeyVersion, algorithm: str, plain: bytes, *, iv: bytes | None, aad: bytes | None
) -> Sealed:
    """Encrypt or wrap with a key.

    Args:
        version: the key.
        algorithm: of :data:`CONTENT` or :data:`WRAPPING`.
        plain: at most as long as the algorithm allows.
        iv: 16 bytes, only with CBC: GCM's is generated here, because no nonce may repeat.
        aad: only with GCM.

    Raises:
        BadParameter: an algorithm that is not this key's, or an invalid value.
    """
    _needs(algorithm, iv=iv, aad=aad)
    if algorithm in RSA:
        public = _rsa(version, algorithm).public_key()
        try:
            return Sealed(public.encrypt(plain, _PADDINGS[algorithm]()))
        except ValueError:
            raise BadParameter(f"value: want what fits {algorithm}, got {len(plain)} bytes") from None
    if algorithm in _GCM:
        key, nonce = _aes(version, algorithm, _GCM), os.urandom(NONCE)
        sealed = AESGCM(key).encrypt(nonce, plain, aad)
        return Sealed(sealed[:-TAG], nonce, sealed[-TAG:], aad)
    if algorithm in _CBC or algorithm in _PADDED:
        key = _aes(version, algorithm, _CBC | _PADDED)
        if algorithm in _PADDED:
            padder = PKCS7(8 * BLOCK).padder()
            plain = padder.update(plain) + padder.finalize()
        elif len(plain) % BLOCK or not plain:
            raise BadParameter(f"value: want whole blocks of {BLOCK} bytes, got {len(plain)} bytes")
        vector = _vector(iv)
        encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
        return Sealed(encryptor.update(plain) + encryptor.finalize(), vector)
    key = _aes(version, algorithm, _WRAP | _WRAP_PAD)
    wrap: Callable[[bytes, bytes], bytes] = (
        keywrap.aes_key_wrap_with_padding if algorithm in _WRAP_PAD else keywrap.aes_key_wrap
    )
    try:
        return Sealed(wrap(key, plain))
    except ValueError:
        raise BadParameter(f"value: want a key that {algorithm} takes, got {len(plain)} bytes") from None


def decrypt(version: KeyVersion, algorithm: str, sealed: Sealed) -> bytes:
    """Decrypt or unwrap with a key.

    Raises:
        BadParameter: an algorithm that is not this key's, or a failed decryption, whatever the cause.
    """
    _needs(algorithm, iv=sealed.iv, aad=sealed.aad, tag=sealed.tag, opening=True)
    try:
        if algorithm in RSA:
            return _rsa(version, algorithm).decrypt(sealed.value, _PADDINGS[algorithm]())
        if algorithm in _GCM:
            key = _aes(version, algorithm, _GCM)
            return AESGCM(key).decrypt(sealed.iv or b"", sealed.value + (sealed.tag or b""), sealed.aad)
        if algorithm in _CBC or algorithm in _PADDED:
            key = _aes(version, algorithm, _CBC | _PADDED)
            decryptor = Cipher(algorithms.AES(key), modes.CBC(_vector(sealed.iv))).decryptor()
            plain = decryptor.update(sealed.value) + decryptor.finalize()
            if algorithm in _CBC:
                return plain
            unpadder = PKCS7(8 * BLOCK).unpadder()
            return unpadder.update(plain) + unpadder.finalize()
        key = _aes(version, algorithm, _WRAP | _WRAP_PAD)
        if algorithm in _WRAP_PAD:
            return keywrap.aes_key_unwrap_with_padding(key, sealed.value)
        return keywrap.aes_key_unwrap(key, sealed.value)
    except (ValueError, InvalidTag, keywrap.InvalidUnwrap):
        raise BadParameter("value: cannot be opened with this key and algorithm") from None


def _needs(
    algorithm: str, *, iv: bytes | None, aad: bytes | None, tag: bytes | None = None, opening: bool = False
) -> None:
    if algorithm not in CONTENT and algorithm not in WRAPPING:
        known = ", ".join(dict.fromkeys((*CONTENT, *WRAPPING)))
        raise BadParameter(f"alg: want one of {known}, got {algorithm[:32]!a}")
    if algorithm in _GCM:
        if not opening and iv is not None:
            raise BadParameter(f"iv: want none for {algorithm}, whose nonce is made inside, got one")
        if opening and (iv is None or len(iv) != NONCE or tag is None or len(tag) != TAG):
            raise BadParameter(f"iv, tag: want {NONCE} and {TAG} bytes for {algorithm}, got others")
        return
    if aad is not None or tag is not None:
        raise BadParameter(f"aad, tag: want none for {algorithm}, got some")
    if iv is not None and algorithm not in _CBC and algorithm not in _PADDED:
        raise BadParameter(f"iv: want none for {algorithm}, got one")


def _vector(iv: bytes | None) -> bytes:
    if iv is None or len(iv) != BLOCK:
        raise BadParameter(f"iv: want {BLOCK} bytes, got {'no iv' if iv is None else len(iv)}")
    return iv


def _rsa(version: KeyVersion, algorithm: str) -> rsa.RSAPrivateKey:
    key = None if material.family(version.kty) == "oct" else material.open_key(version)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadParameter(f"alg: {algorithm} is not for {version.kty} keys")
    return key


def _aes(version: KeyVersion, algorithm: str, sizes: Mapping[str, int]) -> bytes:
    if material.family(version.kty) != "oct":
        raise BadParameter(f"alg: {algorithm} is not for {version.kty} keys")
    if version.size not in ((128, 192, 256) if sizes[algorithm] == 0 else (sizes[algorithm],)):
        raise BadParameter(f"alg: {algorithm} is not for keys of {version.size} bits")
    return version.secret


def _oaep(digest: hashes.HashAlgorithm) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(digest), digest, None)


_PADDINGS: Final[Mapping[str, Callable[[], padding.AsymmetricPadding]]] = {
    "RSA1_5": padding.PKCS1v15,
    "RSA-OAEP": lambda: _oaep(hashes.SHA1()),  # noqa: S303  # RFC 7518 names SHA-1 for it; OAEP does not need it to resist collisions
    "RSA-OAEP-256": lambda: _oaep(hashes.SHA256()),
}
