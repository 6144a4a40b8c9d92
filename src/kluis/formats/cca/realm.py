"""Parse Arm CCA realm claims: the realm's measurements and its key. Nothing here is verified.

Spec: draft-ffm-rats-cca-token, "Realm Claims". Before the draft a realm token names no profile, and its key
is a point; in the draft the key is a COSE_Key. From its third revision on, as in Arm's "Realm Management
Monitor specification" 2.0, "Realm claims", there are more claims. The two documents write the memory policy
differently, and the draft has no realm instance id.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.cca.devices import DIGESTS
from kluis.formats.encoding import cbor
from kluis.formats.encoding.entries import Entries
from kluis.formats.ietf import cose, eat
from kluis.formats.x509 import KeyKind, PublicKey
from kluis.frozen import frozen

PROFILE: Final = "tag:arm.com,2023:realm#1.0.0"
LATEST: Final = "tag:arm.com,2024:realm#2.0.0"
CHALLENGE_SIZE: Final = 64
EXTENSIBLE: Final = 4
# Names of IANA's registry "Named Information Hash Algorithms", and hashlib's names for them.
HASHES: Final = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}
_PERSONALIZATION: Final = 44235
_HASH: Final = 44236
_KEY: Final = 44237
_INITIAL: Final = 44238
_EXTENSIBLE: Final = 44239
_KEY_HASH: Final = 44240
_MEMORY: Final = 44243
_ACTIVATION: Final = 44244
_DEVICES: Final = 44257
# The draft's names for the numbers in Arm's specification.
MEMORY: Final = ("shared", "private")
_NAMES: Final = {
    eat.NONCE: "challenge",
    eat.UEID: "ueid",
    eat.PROFILE: "profile",
    _PERSONALIZATION: "personalization_value",
    _HASH: "hash_algorithm",
    _KEY: "public_key",
    _INITIAL: "initial_measurement",
    _EXTENSIBLE: "extensible_measurements",
    _KEY_HASH: "public_key_hash_algorithm",
    _MEMORY: "memory",
    _ACTIVATION: "live_activation",
    _DEVICES: "devices",
}
_POINT: Final = 97
_MAX_KEY: Final = 256
_WHAT: Final = "CCA realm token"


@frozen(kw_only=True)
class Realm:
    """The realm's claims.

    Attributes:
        profile: ``PROFILE`` or ``LATEST``; None for the generation before both.
        challenge: 64 bytes that the realm chose.
        personalization_value: 64 bytes that the host chose when it made the realm.
        hash_algorithm: of the measurements: ``sha-256``, ``sha-384`` or ``sha-512``. Measurements may be
            longer than its digests.
        public_key_bytes: the realm attestation key, in the encoding whose digest is the platform's challenge.
        public_key: the same, on P-384.
        initial_measurement: 32, 48 or 64 bytes.
        extensible_measurements: 4, of 32, 48 or 64 bytes each.
        public_key_hash_algorithm: of the platform's challenge.
        instance_id: 33 bytes, 0x01 and 32 that name the realm; or None.
        memory: whether a separate key encrypts the realm's memory: ``private`` or ``shared``; None if the
            profile has no such claim.
        live_activation: whether firmware below it can be updated while it runs; or None.
        devices: digest of the tokens of devices assigned to it, 32, 48 or 64 bytes; or None.
    """

    profile: str | None
    challenge: bytes
    personalization_value: bytes
    hash_algorithm: str
    public_key_bytes: bytes
    public_key: PublicKey
    initial_measurement: bytes
    extensible_measurements: tuple[bytes, ...]
    public_key_hash_algorithm: str
    instance_id: bytes | None = None
    memory: str | None = None
    live_activation: bool | None = None
    devices: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Parse the claims.

        Raises:
            UnsupportedError: another profile, or a hash or key of another kind.
            FormatError: a claim is missing, unknown, of another type, or out of bounds.
        """
        claims = Entries(cbor.loads(payload, _WHAT), _WHAT, _NAMES)
        profile = eat.profile(claims)
        if profile not in (None, PROFILE, LATEST):
            raise UnsupportedError(
                f"{_WHAT}.profile: want {PROFILE} or {LATEST}, or none, got {profile!a:.80}",
                code="bad_version",
            )
        required = (eat.NONCE, _PERSONALIZATION, _HASH, _KEY, _INITIAL, _EXTENSIBLE, _KEY_HASH)
        if profile == LATEST:
            claims.only((*required, _MEMORY), (eat.PROFILE, eat.UEID, _ACTIVATION, _DEVICES))
        else:
            claims.only(required, (eat.PROFILE,))
        raw = claims.octets(_KEY, range(1, _MAX_KEY + 1))
        return cls(
            profile=profile,
            challenge=eat.nonce(claims, (CHALLENGE_SIZE,)),
            personalization_value=claims.octets(_PERSONALIZATION, (CHALLENGE_SIZE,)),
            hash_algorithm=_hash(claims, _HASH),
            public_key_bytes=raw,
            public_key=_point(raw) if profile is None else _cose_key(raw),
            initial_measurement=claims.octets(_INITIAL, DIGESTS),
            extensible_measurements=claims.octets_array(
                _EXTENSIBLE, DIGESTS, least=EXTENSIBLE, most=EXTENSIBLE
            ),
            public_key_hash_algorithm=_hash(claims, _KEY_HASH),
            instance_id=eat.random_ueid(claims) if eat.UEID in claims else None,
            memory=_memory(claims) if _MEMORY in claims else None,
            live_activation=bool(claims.integer(_ACTIVATION, most=1)) if _ACTIVATION in claims else None,
            devices=claims.octets(_DEVICES, DIGESTS) if _DEVICES in claims else None,
        )


def _memory(claims: Entries) -> str:
    if type(claims[_MEMORY]) is int:
        return MEMORY[claims.integer(_MEMORY, most=1)]
    name = claims.text(_MEMORY, limit=32)
    if name not in MEMORY:
        raise FormatError(
            f"{_WHAT}.{_NAMES[_MEMORY]}: want {' or '.join(MEMORY)}, got {name!a}", code="bad_encoding"
        )
    return name


def _hash(claims: Entries, key: int) -> str:
    name = claims.text(key, limit=32)
    if name not in HASHES:
        raise UnsupportedError(
            f"{_WHAT}.{_NAMES[key]}: want one of {', '.join(HASHES)}, got {name!a}", code="bad_type"
        )
    return name


def _point(raw: bytes) -> PublicKey:
    if len(raw) != _POINT or raw[0] != 4:
        raise FormatError(f"{_WHAT}.public_key: want 04 and 96 bytes of a point on P-384", code="bad_length")
    return PublicKey.of_point(KeyKind.P384, raw)


def _cose_key(raw: bytes) -> PublicKey:
    key = cose.parse_key(raw, f"{_WHAT}.public_key")
    if key.kind is not KeyKind.P384:
        raise UnsupportedError(
            f"{_WHAT}.public_key: want a key on P-384, got one on {key.kind.value}", code="bad_type"
        )
    return key
