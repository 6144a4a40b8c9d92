"""Parse released keys: a key service's answer to a release request. Nothing here is verified.

A release is a compact JWS, whose payload states the request and describes the key. Its member ``key_hsm`` is
JSON again, and contains the key material, wrapped to the environment's key:

    ciphertext = RSAES-OAEP(environment's key, AES-256 key) || AES key wrap with padding of the material

Spec: Azure Key Vault REST API, "Release"; RFC 7515; PKCS #11 v3.0, "CKM_RSA_AES_KEY_WRAP".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

MAX_SIZE: Final = 256 * 1024
MAX_CHAIN: Final = 8
# Each mechanism's hash, used for OAEP and for its mask.
ALGORITHMS: Final[Mapping[str, str]] = {
    "CKM_RSA_AES_KEY_WRAP": "sha1",
    "RSA_AES_KEY_WRAP_256": "sha256",
    "RSA_AES_KEY_WRAP_384": "sha384",
}
_WHAT: Final = "released key"
_IDENTIFIER: Final = re.compile(r"(https://[!-.0-~]{1,255})/keys/([0-9A-Za-z-]{1,127})/([0-9A-Za-z]{1,64})")
_PUBLIC: Final = ("n", "e", "crv", "x", "y")


@frozen(kw_only=True)
class ReleasedKey:
    """One release.

    Attributes:
        signed: the bytes that ``signature`` covers.
        signature: RSASSA-PKCS1-v1_5 with SHA-256.
        chain: certificates, DER, the signer's first; may be empty.
        vault: the name of the vault, 32 bytes, if a Kluis key service answered; else None.
        certificate: DER, of the signer's key with its enclave's evidence, if a Kluis key service answered;
            else None.
        url: of the vault, as the requester called it.
        name: of the key.
        version: of the key.
        kty: the JWK key type, with or without ``-HSM``.
        public: members n and e, or crv, x and y; empty for an oct key.
        nonce: the requester's; None if it gave none.
        recipient: ``kid`` of the environment's key.
        algorithm: of :data:`ALGORITHMS`.
        ciphertext: the material, wrapped.
    """

    signed: bytes
    signature: bytes
    chain: tuple[bytes, ...]
    vault: bytes | None
    certificate: bytes | None
    url: str
    name: str
    version: str
    kty: str
    public: Mapping[str, str]
    nonce: str | None
    recipient: str
    algorithm: str
    ciphertext: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a release, at most 256 KiB.

        Raises:
            UnsupportedError: a signature or wrapping that is not supported.
            FormatError: not a release.
        """
        parts = text.split(".") if len(text) <= MAX_SIZE else []
        if len(parts) != 3:
            raise FormatError(
                f"{_WHAT}: want a JWS of three parts, at most {MAX_SIZE} bytes", code="malformed"
            )
        header, payload = (
            Members(_json(b64.decode_url(part, f"{_WHAT}.{what}"), what), f"{_WHAT}.{what}")
            for part, what in zip(parts, ("header", "payload"), strict=False)
        )
        if header.text("alg", limit=16) != "RS256" or "crit" in header:
            raise UnsupportedError(
                f"{_WHAT}.header: want alg RS256 without crit, got another", code="bad_type"
            )
        request, shown = payload.object("request"), payload.object("response").object("key").object("key")
        sealed = Members(
            _json(b64.decode_url(shown.text("key_hsm"), "key_hsm"), "key_hsm"), f"{_WHAT}.key_hsm"
        )
        inner = sealed.object("header")
        algorithm = inner.text("enc", limit=64)
        if algorithm not in ALGORITHMS:
            raise UnsupportedError(
                f"{_WHAT}.enc: want one of {', '.join(ALGORITHMS)}, got {algorithm!a}", code="bad_type"
            )
        url, name, version = _identifier(shown.text("kid", limit=1024))
        return cls(
            signed=f"{parts[0]}.{parts[1]}".encode(),
            signature=b64.decode_url(parts[2], f"{_WHAT}.signature"),
            chain=tuple(
                b64.decode(each, f"{_WHAT}.x5c")
                for each in (header.texts("x5c", most=MAX_CHAIN) if "x5c" in header else ())
            ),
            vault=header.hex("x-kluis-vault", 32, lower=True) if "x-kluis-vault" in header else None,
            certificate=b64.decode(header.text("x-kluis-certificate"), f"{_WHAT}.x-kluis-certificate")
            if "x-kluis-certificate" in header
            else None,
            url=url,
            name=name,
            version=version,
            kty=shown.text("kty", limit=16),
            public={each: shown.text(each, limit=2048) for each in _PUBLIC if each in shown},
            nonce=request.text("nonce", limit=1024) if "nonce" in request else None,
            recipient=inner.text("kid", limit=256),
            algorithm=algorithm,
            ciphertext=b64.decode_url(sealed.text("ciphertext"), f"{_WHAT}.ciphertext"),
        )


def _json(data: bytes, what: str) -> jcs.Json:
    return jcs.loads(data, f"{_WHAT}.{what}", max_size=MAX_SIZE, max_depth=16)


def _identifier(kid: str) -> tuple[str, str, str]:
    match = _IDENTIFIER.fullmatch(kid)
    if match is None:
        raise FormatError(f"{_WHAT}.kid: want https://HOST/keys/NAME/VERSION, got another", code="malformed")
    return match[1], match[2], match[3]
