"""Sign and verify digests with one opened key, using the algorithms of Azure's clients.

Spec: RFC 7518, "Cryptographic Algorithms for Digital Signatures and MACs"; RFC 8812 (ES256K). ECDSA
signatures are R and S concatenated, as in JOSE. For HMAC, ``value`` is the message itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from kluis.services.keyvault.crypto import material
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.vault.records import KeyVersion


class Algorithm(NamedTuple):
    """A signature's kind, hash, and curve."""

    kind: str
    digest: hashes.HashAlgorithm
    curve: str = ""


_SHA: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    **{
        f"{kind}{bits}": Algorithm(kind, digest)
        for kind in ("RS", "PS", "HS")
        for bits, digest in _SHA.items()
    },
    "ES256": Algorithm("ES", _SHA["256"], "P-256"),
    "ES384": Algorithm("ES", _SHA["384"], "P-384"),
    "ES512": Algorithm("ES", _SHA["512"], "P-521"),
    "ES256K": Algorithm("ES", _SHA["256"], "P-256K"),
}


def sign(version: KeyVersion, name: str, digest: bytes) -> bytes:
    """Sign a digest, or compute the MAC of a message.

    Args:
        version: the key.
        name: the algorithm.
        digest: as long as the algorithm's hash; for HMAC, any message.

    Raises:
        BadParameter: an algorithm that is not this key's, or a digest of another length.
    """
    algorithm = _algorithm(version, name, digest)
    if algorithm.kind == "HS":
        return hmac.digest(version.secret, digest, algorithm.digest.name)
    key = material.open_key(version)
    hashed = Prehashed(algorithm.digest)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, _padding(algorithm), hashed)
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(hashed)))
    size = (key.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def verify(version: KeyVersion, name: str, digest: bytes, signature: bytes) -> bool:
    """Whether the key made the signature over the digest.

    Raises:
        BadParameter: an algorithm that is not this key's, or a digest of another length.
    """
    algorithm = _algorithm(version, name, digest)
    if algorithm.kind == "HS":
        return hmac.compare_digest(hmac.digest(version.secret, digest, algorithm.digest.name), signature)
    key = material.open_key(version)
    hashed = Prehashed(algorithm.digest)
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            key.public_key().verify(signature, digest, _padding(algorithm), hashed)
            return True
        size = (key.key_size + 7) // 8
        if len(signature) != 2 * size:
            return False
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        key.public_key().verify(encode_dss_signature(r, s), digest, ec.ECDSA(hashed))
    except InvalidSignature:
        return False
    return True


def _algorithm(version: KeyVersion, name: str, digest: bytes) -> Algorithm:
    algorithm = ALGORITHMS.get(name)
    if algorithm is None:
        raise BadParameter(f"alg: want one of {', '.join(ALGORITHMS)}, got {name[:32]!a}")
    family = {"RS": "RSA", "PS": "RSA", "ES": "EC", "HS": "oct"}[algorithm.kind]
    if material.family(version.kty) != family or (
        algorithm.curve and version.public["crv"] != algorithm.curve
    ):
        curve = f" on {version.public['crv']}" if "crv" in version.public else ""
        raise BadParameter(f"alg: {name} is not for {version.kty} keys{curve}")
    if algorithm.kind != "HS" and len(digest) != algorithm.digest.digest_size:
        raise BadParameter(
            f"value: want a digest of {algorithm.digest.digest_size} bytes for {name}, got {len(digest)}"
        )
    return algorithm


def _padding(algorithm: Algorithm) -> padding.AsymmetricPadding:
    if algorithm.kind == "RS":
        return padding.PKCS1v15()
    return padding.PSS(padding.MGF1(algorithm.digest), algorithm.digest.digest_size)
