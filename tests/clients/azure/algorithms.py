"""Every algorithm that ``CryptographyClient`` names, held against what pyca/cryptography makes of a key."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from azure.keyvault.keys import JsonWebKey, KeyClient
from azure.keyvault.keys.crypto import (
    CryptographyClient,
    EncryptionAlgorithm,
    KeyWrapAlgorithm,
    SignatureAlgorithm,
)
from cryptography.hazmat.primitives import hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding
from cryptography.hazmat.primitives.padding import PKCS7
from scenario import World, fresh, refused, scenario

HASHES: dict[str, Any] = {"256": SHA256, "384": SHA384, "512": SHA512}
CURVES: dict[str, tuple[str, Any]] = {
    "ES256": ("P-256", ec.SECP256R1()),
    "ES384": ("P-384", ec.SECP384R1()),
    "ES512": ("P-521", ec.SECP521R1()),
    "ES256K": ("P-256K", ec.SECP256K1()),
}
SAID = b"what was said, of 32 bytes again"


def clients(world: World, keys: KeyClient, key: Any) -> list[CryptographyClient]:
    """One client with the public key, which it uses where it can; one that only knows the key's name."""
    return [
        CryptographyClient(key, world.known("admin"), **world.usual),
        keys.get_cryptography_client(key.name),
    ]


def brought(keys: KeyClient, size: int) -> tuple[Any, bytes]:
    """A symmetric key that this side knows, too; ``size`` is in bits."""
    secret = secrets.token_bytes(size // 8)
    return keys.import_key(fresh("k"), JsonWebKey(kty="oct", k=secret)), secret


@scenario("CryptographyClient.sign, verify: RS, PS and ES of every size; another digest, another signature")
def signatures(world: World) -> None:
    keys = world.keys()
    rsa_key = keys.create_rsa_key(fresh("k"))
    for algorithm in SignatureAlgorithm:
        name = algorithm.value
        if name.startswith("HS"):
            continue
        digest = hashlib.new(f"sha{name[2:5]}", SAID).digest()
        curve, kind = CURVES.get(name, ("", None))
        key = keys.create_ec_key(fresh("k"), curve=curve) if kind else rsa_key
        made = clients(world, keys, key)[0].sign(algorithm, digest)
        assert (made.key_id, made.algorithm) == (key.id, algorithm)
        for asked in clients(world, keys, key):
            assert asked.verify(algorithm, digest, made.signature).is_valid, name
            assert not asked.verify(algorithm, digest[::-1], made.signature).is_valid, name
            assert not asked.verify(algorithm, digest, made.signature[::-1]).is_valid, name
            with refused(400, "BadParameter", f"want a digest of {len(digest)} bytes for {name}, got 5"):
                asked.sign(algorithm, digest[:5])
        if kind:
            x, y = (int.from_bytes(part, "big") for part in (key.key.x, key.key.y))
            half = len(made.signature) // 2
            r, s = (int.from_bytes(part, "big") for part in (made.signature[:half], made.signature[half:]))
            ec.EllipticCurvePublicNumbers(x, y, kind).public_key().verify(
                encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(HASHES[name[2:5]]()))
            )


@scenario(
    "CryptographyClient.sign, verify by HS256, HS384, HS512, of an oct key that may; of one that may not"
)
def message_authentication(world: World) -> None:
    keys = world.keys()
    secret = secrets.token_bytes(64)
    key = keys.import_key(fresh("k"), JsonWebKey(kty="oct", k=secret, key_ops=["sign", "verify"]))
    for bits, kind in HASHES.items():
        mac = hmac.HMAC(secret, kind())
        mac.update(SAID)
        for asked in clients(world, keys, key):
            made = asked.sign(SignatureAlgorithm(f"HS{bits}"), SAID)
            assert made.signature == mac.copy().finalize()
            assert asked.verify(SignatureAlgorithm(f"HS{bits}"), SAID, made.signature).is_valid
            assert not asked.verify(SignatureAlgorithm(f"HS{bits}"), SAID[1:], made.signature).is_valid
    with refused(403, "Forbidden"):
        clients(world, keys, brought(keys, 256)[0])[0].sign(SignatureAlgorithm.hs256, SAID)


@scenario(
    "CryptographyClient.encrypt, decrypt by GCM, CBC and CBCPAD of every size; a changed tag, vector, key"
)
def symmetric_encryption(world: World) -> None:
    keys = world.keys()
    for size in (128, 192, 256):
        key, secret = brought(keys, size)
        # By its text: with the enum's member the client does some of these itself, with a local key.
        gcm, cbc, padded = (f"A{size}{mode}" for mode in ("GCM", "CBC", "CBCPAD"))
        for asked in clients(world, keys, key):
            made = asked.encrypt(gcm, SAID, additional_authenticated_data=b"aad")
            assert AESGCM(secret).decrypt(made.iv, made.ciphertext + made.tag, b"aad") == SAID
            opening = {"iv": made.iv, "authentication_tag": made.tag, "additional_authenticated_data": b"aad"}
            assert asked.decrypt(gcm, made.ciphertext, **opening).plaintext == SAID
            for changed in (
                {"authentication_tag": made.tag[::-1]},
                {"additional_authenticated_data": b"bad"},
                {"iv": made.iv[::-1]},
            ):
                with refused(400, "BadParameter", "cannot be opened"):
                    asked.decrypt(gcm, made.ciphertext, **{**opening, **changed})
            iv = secrets.token_bytes(16)
            encryptor, padder = Cipher(algorithms.AES(secret), modes.CBC(iv)), PKCS7(128).padder()
            for name, plain in ((cbc, SAID), (padded, padder.update(SAID[1:]) + padder.finalize())):
                sealed = encryptor.encryptor()
                said = SAID if name == cbc else SAID[1:]
                made = asked.encrypt(name, said, iv=iv)
                assert made.ciphertext == sealed.update(plain) + sealed.finalize(), name
                assert asked.decrypt(name, made.ciphertext, iv=iv).plaintext == said
        with refused(400, "BadParameter", f"is not for keys of {size} bits"):
            clients(world, keys, key)[1].encrypt("A128GCM" if size != 128 else "A256GCM", SAID)


@scenario("CryptographyClient.wrap_key, unwrap_key by AES key wrap, padded or not, of every size")
def symmetric_wrapping(world: World) -> None:
    keys = world.keys()
    for size in (128, 192, 256):
        key, secret = brought(keys, size)
        for name, given, wrap in (
            (f"A{size}KW", SAID, aes_key_wrap),
            (KeyWrapAlgorithm.ckm_aes_key_wrap, SAID, aes_key_wrap),
            (KeyWrapAlgorithm.ckm_aes_key_wrap_pad, SAID[1:], aes_key_wrap_with_padding),
        ):
            for asked in clients(world, keys, key):
                made = asked.wrap_key(name, given).encrypted_key
                assert made == wrap(secret, given), name
                assert asked.unwrap_key(name, made).key == given
                with refused(400, "BadParameter", "cannot be opened"):
                    asked.unwrap_key(name, made[::-1])


@scenario("CryptographyClient with A256KW of an oct key that the vault keeps: what the client does by itself")
def symmetric_by_the_client(world: World) -> None:
    """The client takes a random key for one that it has not: its own error, which no service hears of."""
    keys = world.keys()
    key, secret = brought(keys, 256)
    made = clients(world, keys, key)[0].wrap_key(KeyWrapAlgorithm.aes_256, SAID).encrypted_key
    assert made != aes_key_wrap(secret, SAID)
    with refused(400, "BadParameter", "cannot be opened"):
        keys.get_cryptography_client(key.name).unwrap_key("A256KW", made)


@scenario(
    "CryptographyClient.encrypt, decrypt by RSA-OAEP, RSA-OAEP-256 and RSA1_5: of 2048, 3072, 4096 bits"
)
def rsa_encryption(world: World) -> None:
    keys = world.keys()
    for size in (2048, 3072, 4096):
        key = keys.create_rsa_key(fresh("k"), size=size, hardware_protected=size == 3072)
        here, there = clients(world, keys, key)
        for algorithm in (
            EncryptionAlgorithm.rsa_oaep,
            EncryptionAlgorithm.rsa_oaep_256,
            EncryptionAlgorithm.rsa1_5,
        ):
            for asked, name in ((here, algorithm), (there, algorithm.value)):
                made = asked.encrypt(name, SAID)
                assert (len(made.ciphertext), made.key_id) == (size // 8, key.id)
                assert there.decrypt(algorithm, made.ciphertext).plaintext == SAID
        with refused(400, "BadParameter", "want what fits RSA-OAEP-256"):
            there.encrypt("RSA-OAEP-256", bytes(size // 8))
