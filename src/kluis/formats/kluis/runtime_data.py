"""Runtime data: the document whose hash is an enclave's report data. Nothing here is verified.

Application and host never choose report data directly, or a host could make a genuine enclave quote a relay's
key. The runtime inside writes this document and sets its purpose. The report data is its SHA-256 and 32 zero
bytes, as Azure Attestation expects.

    {"image_id": hex, "keys": [JWK], "nonce": hex, "payload": base64url, "purpose": text, "version": 1}

Canonical JSON (RFC 8785); keys are public JWKs (RFC 7517) whose members are text, or lists of text.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen
from kluis.hashes import sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

MAX_SIZE: Final = 256 * 1024
MAX_PAYLOAD: Final = 128 * 1024
MAX_NONCE: Final = 64
MAX_KEYS: Final = 8
_MEMBERS: Final = ("image_id", "keys", "nonce", "payload", "purpose", "version")
MAX_LIST: Final = 8
Jwk: TypeAlias = Mapping[str, str | list[str]]
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_WHAT: Final = "runtime data"


class Purpose(enum.StrEnum):
    """The purpose of the evidence; a verifier accepts exactly one."""

    APP = "app"
    CLI = "cli"
    CHANNEL = "channel"
    RELEASE_KEY = "release-key"
    RECEIPT = "receipt"
    LEDGER_NODE = "ledger-node"
    STORE_KEY = "store-key"
    PLATFORM = "platform"
    DEVICES = "devices"


@frozen(kw_only=True)
class RuntimeData:
    """The document's fields.

    Attributes:
        purpose: set by the runtime, never by the application or the host.
        image_id: 32 bytes.
        nonce: the verifier's, at most 64 bytes; empty if there is none.
        keys: public JWKs made inside, at most 8.
        payload: at most 128 KiB.
    """

    purpose: Purpose
    image_id: bytes
    nonce: bytes
    keys: tuple[Jwk, ...] = ()
    payload: bytes = b""

    def encode(self) -> bytes:
        """Write the document.

        Raises:
            FormatError: a field is out of bounds, or a key is private.
        """
        _bounds(self)
        return jcs.dumps(
            {
                "version": 1,
                "purpose": self.purpose.value,
                "image_id": self.image_id.hex(),
                "nonce": self.nonce.hex(),
                "keys": [dict(key) for key in self.keys],
                "payload": b64.encode_url(self.payload),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a document in its one canonical form.

        Raises:
            UnsupportedError: another version.
            FormatError: not canonical, a member missing or unknown, out of bounds, a private key.
        """
        value = Members(jcs.loads_canonical(data, _WHAT, max_size=MAX_SIZE), _WHAT)
        value.only(_MEMBERS)
        value.version(1)
        purpose = value.text("purpose")
        if purpose not in set(Purpose):
            raise UnsupportedError(
                f"{_WHAT}.purpose: want one of {[*map(str, Purpose)]}, got {purpose!a}", code="bad_type"
            )
        runtime_data = cls(
            purpose=Purpose(purpose),
            image_id=value.hex("image_id", lower=True),
            nonce=value.hex("nonce", lower=True),
            keys=_keys(value.array("keys", most=MAX_KEYS)),
            payload=b64.decode_url(value.text("payload"), f"{_WHAT}.payload"),
        )
        _bounds(runtime_data)
        return runtime_data


def report_data(document: bytes) -> bytes:
    """The 64 bytes of report data for ``document``: its SHA-256 and 32 zero bytes."""
    return sha256(document) + bytes(32)


def okp_key(curve: str, public: bytes) -> dict[str, str]:
    """Write a public key as a JWK. Spec: RFC 8037.

    Args:
        curve: ``X25519`` or ``Ed25519``.
        public: 32 bytes.
    """
    return {"kty": "OKP", "crv": curve, "x": b64.encode_url(public)}


def rsa_key(modulus: int, exponent: int) -> dict[str, str | list[str]]:
    """Write a public RSA key for encryption as a JWK, named by its thumbprint.

    Spec: RFC 7517; RFC 7518, "Parameters for RSA Keys"; RFC 7638.
    """
    numbers = {name: b64.encode_url(_octets(value)) for name, value in (("n", modulus), ("e", exponent))}
    thumbprint = b64.encode_url(sha256(jcs.dumps({"kty": "RSA", **numbers})))
    # Key services look for one of the two: ``use``, as in RFC 7517, or ``key_ops``, as Azure's guests write
    # it.
    return {"kty": "RSA", "kid": thumbprint, "use": "enc", "key_ops": ["encrypt"], **numbers}


def ec_key(curve: ec.EllipticCurve, x: int, y: int) -> dict[str, str | list[str]]:
    """Write a public key on P-256 or P-384 as a JWK. Spec: RFC 7518, "Parameters for Elliptic Curve Keys"."""
    size = (curve.key_size + 7) // 8
    name = {256: "P-256", 384: "P-384"}[curve.key_size]
    point = {"x": b64.encode_url(x.to_bytes(size, "big")), "y": b64.encode_url(y.to_bytes(size, "big"))}
    return {"kty": "EC", "crv": name, **point}


def okp_public(key: Jwk, curve: str) -> bytes:
    """Read a public key of ``curve`` from a JWK: 32 bytes.

    Raises:
        FormatError: another kind of key.
    """
    what = f"{_WHAT}.keys"
    if key.get("kty") != "OKP" or key.get("crv") != curve:
        got = f"{key.get('kty')!a} {key.get('crv')!a}"
        raise FormatError(f"{what}: want an OKP key on {curve}, got {got}", code="bad_type")
    x = key.get("x")
    public = b64.decode_url(x if isinstance(x, str) else "", what)
    if len(public) != 32:
        raise FormatError(f"{what}: want 32 bytes, got {len(public)}", code="bad_length")
    return public


def _bounds(value: RuntimeData) -> None:
    for name, size, least, most in (
        ("image_id", len(value.image_id), 32, 32),
        ("nonce", len(value.nonce), 0, MAX_NONCE),
        ("payload", len(value.payload), 0, MAX_PAYLOAD),
        ("keys", len(value.keys), 0, MAX_KEYS),
    ):
        if not least <= size <= most:
            raise FormatError(f"{_WHAT}.{name}: want size {least}..{most}, got {size}", code="bad_length")
    for key in value.keys:
        if private := sorted(_PRIVATE & set(key)):
            raise FormatError(f"{_WHAT}.keys: a public key has no member {private[0]!a}", code="bad_type")


def _keys(items: list[jcs.Json]) -> tuple[Jwk, ...]:
    for key in items:
        if not isinstance(key, dict) or not all(map(_is_member, key.values())):
            raise FormatError(f"{_WHAT}.keys: want objects of text", code="bad_type")
        if "kty" not in key:
            raise FormatError(f"{_WHAT}.keys: want member 'kty'", code="bad_type")
    return tuple(cast("dict[str, str | list[str]]", key) for key in items)


def _is_member(value: jcs.Json) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_LIST and all(isinstance(each, str) for each in value)
    return isinstance(value, str)


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
