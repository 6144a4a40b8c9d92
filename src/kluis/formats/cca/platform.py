"""Arm CCA platform claims: what the platform under a realm is. Nothing here is verified.

Spec: draft-ffm-rats-cca-token, "Platform Claims"; the profile's name is all that told generations
apart: ``http://arm.com/CCA-SSD/1.0.0`` before it, ``tag:arm.com,2023:cca_platform#1.0.0`` in it.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError
from kluis.formats import cbor, eat
from kluis.formats._entries import Entries

PROFILES: Final = ("http://arm.com/CCA-SSD/1.0.0", "tag:arm.com,2023:cca_platform#1.0.0")
DIGESTS: Final = (32, 48, 64)
MAX_CONFIG: Final = 4096
MAX_COMPONENTS: Final = 64
MAX_TEXT: Final = 512
_LIFECYCLE: Final = 2395
_IMPLEMENTATION: Final = 2396
_COMPONENTS: Final = 2399
_SERVICE: Final = 2400
_CONFIG: Final = 2401
_HASH: Final = 2402
_NAMES: Final = {
    eat.NONCE: "challenge",
    eat.UEID: "ueid",
    eat.PROFILE: "profile",
    _LIFECYCLE: "lifecycle",
    _IMPLEMENTATION: "implementation_id",
    _COMPONENTS: "components",
    _SERVICE: "verification_service",
    _CONFIG: "config",
    _HASH: "hash_algorithm",
}
_COMPONENT_NAMES: Final = {
    1: "kind",
    2: "measurement",
    4: "version",
    5: "signer",
    6: "hash_algorithm",
}
_WHAT: Final = "CCA platform token"


class Lifecycle(enum.Enum):
    """The state of a platform: the high byte of its lifecycle, worst first."""

    DECOMMISSIONED = 0x60
    RECOVERABLE_DEBUG = 0x50
    NON_CCA_DEBUG = 0x40
    UNKNOWN = 0x00
    ASSEMBLY_AND_TEST = 0x10
    PROVISIONING = 0x20
    SECURED = 0x30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part of the platform's firmware.

    Attributes:
        kind: what it is, or None.
        measurement: 32, 48 or 64 bytes.
        version: or None.
        signer: digest of the signer's key, 32, 48 or 64 bytes.
        hash_algorithm: of the measurement, or a description of it, as the platform has it; or None.
    """

    kind: str | None
    measurement: bytes
    version: str | None
    signer: bytes
    hash_algorithm: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The platform's claims.

    Attributes:
        profile: one of ``PROFILES``.
        challenge: digest of the realm's key, 32, 48 or 64 bytes.
        implementation_id: 32 bytes, names the kind of platform.
        instance_id: 33 bytes, 0x01 and 32 that name the platform.
        config: 1..4096 bytes, opaque.
        state: the lifecycle's number, 0..0xffff.
        components: 1 to 64.
        verification_service: where the platform thinks that it can be verified, or None. Never fetched.
        hash_algorithm: of measurements that name none, or None.
    """

    profile: str
    challenge: bytes
    implementation_id: bytes
    instance_id: bytes
    config: bytes
    state: int
    components: tuple[Component, ...]
    verification_service: str | None
    hash_algorithm: str | None

    @property
    def lifecycle(self) -> Lifecycle:
        """What ``state`` means."""
        return Lifecycle(self.state >> 8)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read the claims.

        Raises:
            UnsupportedError: of another profile.
            FormatError: a claim is missing, unknown, of another type, or out of bounds.
        """
        claims = Entries(cbor.loads(payload, _WHAT), _WHAT, _NAMES)
        profile = eat.profile(claims)
        if profile not in PROFILES:
            raise UnsupportedError(
                f"{_WHAT}.profile: want {' or '.join(PROFILES)}, got {profile!a:.80}", code="bad_version"
            )
        claims.only(
            (eat.PROFILE, eat.NONCE, eat.UEID, _IMPLEMENTATION, _CONFIG, _LIFECYCLE, _COMPONENTS),
            (_SERVICE, _HASH),
        )
        state = claims.integer(_LIFECYCLE, most=0xFFFF)
        if state >> 8 not in _STATES:
            raise FormatError(f"{_WHAT}.lifecycle: {state:#06x} is no state", code="bad_encoding")
        return cls(
            profile=profile,
            challenge=eat.nonce(claims, DIGESTS),
            implementation_id=claims.octets(_IMPLEMENTATION, (32,)),
            instance_id=eat.random_ueid(claims),
            config=claims.octets(_CONFIG, range(1, MAX_CONFIG + 1)),
            state=state,
            components=tuple(map(_component, claims.array(_COMPONENTS, least=1, most=MAX_COMPONENTS))),
            verification_service=claims.text_or_none(_SERVICE, limit=MAX_TEXT),
            hash_algorithm=claims.text_or_none(_HASH, limit=MAX_TEXT),
        )


_STATES: Final = frozenset(lifecycle.value for lifecycle in Lifecycle)


def _component(value: cbor.Value) -> Component:
    entries = Entries(value, f"{_WHAT}.components", _COMPONENT_NAMES)
    entries.only((2, 5), (1, 4, 6))
    return Component(
        kind=entries.text_or_none(1, limit=MAX_TEXT),
        measurement=entries.octets(2, DIGESTS),
        version=entries.text_or_none(4, limit=MAX_TEXT),
        signer=entries.octets(5, DIGESTS),
        hash_algorithm=entries.text_or_none(6, limit=MAX_TEXT),
    )
