"""Parse Arm CCA platform claims, which describe the platform under a realm. Nothing here is verified.

Spec: draft-ffm-rats-cca-token, "Platform Claims". The profile's name identifies the generation. Before the
draft it is ``http://arm.com/CCA-SSD/1.0.0``; in the draft ``tag:arm.com,2023:cca_platform#1.0.0``; these two
differ only in the name. From the draft's third revision on it is ``tag:arm.com,2024:cca_platform#2.0.0``, as
in Arm's "Realm Management Monitor specification" 2.0, "CCA platform claims".
"""

from __future__ import annotations

import enum
from typing import Final, Self

from kluis.errors import FormatError, UnsupportedError
from kluis.formats.cca.devices import DIGESTS, Device, RootKey
from kluis.formats.encoding import cbor
from kluis.formats.encoding.entries import Entries
from kluis.formats.ietf import eat
from kluis.frozen import frozen

LATEST: Final = "tag:arm.com,2024:cca_platform#2.0.0"
PROFILES: Final = ("http://arm.com/CCA-SSD/1.0.0", "tag:arm.com,2023:cca_platform#1.0.0", LATEST)
MAX_CONFIG: Final = 4096
MAX_COMPONENTS: Final = 64
MAX_TEXT: Final = 512
MAX_DEVICES: Final = 64
MAX_ROOT_KEYS: Final = 64
MAX_COUNTERSIGNERS: Final = 16
# The component that requests the platform's token: only the realm management monitor may.
REALM_MANAGER: Final = 1
_CLIENT: Final = 2394
_LIFECYCLE: Final = 2395
_IMPLEMENTATION: Final = 2396
_COMPONENTS: Final = 2399
_SERVICE: Final = 2400
_CONFIG: Final = 2401
_HASH: Final = 2402
_MANUFACTURING: Final = 2403
_DEVICES: Final = 2404
_ROOT_KEYS: Final = 2405
_PEER_SIGNERS: Final = 2406
_NAMES: Final = {
    eat.NONCE: "challenge",
    eat.UEID: "ueid",
    eat.PROFILE: "profile",
    _CLIENT: "client_id",
    _LIFECYCLE: "lifecycle",
    _IMPLEMENTATION: "implementation_id",
    _COMPONENTS: "components",
    _SERVICE: "verification_service",
    _CONFIG: "config",
    _HASH: "hash_algorithm",
    _MANUFACTURING: "manufacturing_config",
    _DEVICES: "devices",
    _ROOT_KEYS: "root_keys",
    _PEER_SIGNERS: "peer_signers",
}
_COMPONENT_NAMES: Final = {
    1: "kind",
    2: "measurement",
    4: "version",
    5: "signer",
    6: "hash_algorithm",
    7: "live_activation",
    8: "countersigners",
}
_WHAT: Final = "CCA platform token"


class Lifecycle(enum.Enum):
    """The lifecycle state of a platform: the high byte of its lifecycle, worst first."""

    DECOMMISSIONED = 0x60
    RECOVERABLE_DEBUG = 0x50
    NON_CCA_DEBUG = 0x40
    UNKNOWN = 0x00
    ASSEMBLY_AND_TEST = 0x10
    PROVISIONING = 0x20
    SECURED = 0x30


@frozen(kw_only=True)
class Component:
    """One component of the platform's firmware.

    Attributes:
        kind: of component, or None.
        measurement: 32, 48 or 64 bytes.
        version: or None.
        signer: digest of the signer's key, 32, 48 or 64 bytes.
        hash_algorithm: of the measurement, or the platform's description of it; or None.
        live_activation: whether it can be updated before the platform restarts; or None.
        countersigners: digests of keys that also signed it, 32, 48 or 64 bytes each.
    """

    kind: str | None
    measurement: bytes
    version: str | None
    signer: bytes
    hash_algorithm: str | None
    live_activation: bool | None = None
    countersigners: tuple[bytes, ...] = ()


@frozen(kw_only=True)
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
        verification_service: the verifier that the platform suggests, or None. Never fetched.
        hash_algorithm: of measurements that name none; None if the profile lets it be absent.
        manufacturing_config: 1..4096 bytes, opaque; or None.
        devices: attached to the running platform, such as memory over CXL.
        root_keys: keys that verify its firmware.
        peer_signers: 1..4096 bytes, opaque; or None.
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
    manufacturing_config: bytes | None = None
    devices: tuple[Device, ...] = ()
    root_keys: tuple[RootKey, ...] = ()
    peer_signers: bytes | None = None

    @property
    def lifecycle(self) -> Lifecycle:
        """The lifecycle state that ``state`` encodes."""
        return Lifecycle(self.state >> 8)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Parse the claims.

        Raises:
            UnsupportedError: another profile.
            FormatError: a claim is missing, unknown, of another type, or out of bounds.
        """
        claims = Entries(cbor.loads(payload, _WHAT), _WHAT, _NAMES)
        profile = eat.profile(claims)
        if profile not in PROFILES:
            raise UnsupportedError(
                f"{_WHAT}.profile: want {' or '.join(PROFILES)}, got {profile!a:.80}", code="bad_version"
            )
        latest = profile == LATEST
        claims.only(
            (*_REQUIRED, _HASH, _CLIENT) if latest else _REQUIRED,
            (_SERVICE, _MANUFACTURING, _DEVICES, _ROOT_KEYS, _PEER_SIGNERS) if latest else (_SERVICE, _HASH),
        )
        if latest:
            claims.integer(_CLIENT, least=REALM_MANAGER, most=REALM_MANAGER)
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
            components=tuple(
                _component(each, latest) for each in claims.array(_COMPONENTS, least=1, most=MAX_COMPONENTS)
            ),
            verification_service=claims.text_or_none(_SERVICE, limit=MAX_TEXT),
            hash_algorithm=claims.text_or_none(_HASH, limit=MAX_TEXT),
            manufacturing_config=_opaque(claims, _MANUFACTURING),
            devices=tuple(Device.read(each, f"{_WHAT}.devices") for each in _several(claims, _DEVICES)),
            root_keys=tuple(
                RootKey.read(each, f"{_WHAT}.root_keys") for each in _several(claims, _ROOT_KEYS)
            ),
            peer_signers=_opaque(claims, _PEER_SIGNERS),
        )


_REQUIRED: Final = (eat.PROFILE, eat.NONCE, eat.UEID, _IMPLEMENTATION, _CONFIG, _LIFECYCLE, _COMPONENTS)
_STATES: Final = frozenset(lifecycle.value for lifecycle in Lifecycle)


def _opaque(claims: Entries, key: int) -> bytes | None:
    return claims.octets(key, range(1, MAX_CONFIG + 1)) if key in claims else None


def _several(claims: Entries, key: int) -> list[cbor.Value]:
    most = MAX_DEVICES if key == _DEVICES else MAX_ROOT_KEYS
    return claims.array(key, least=1, most=most) if key in claims else []


def _component(value: cbor.Value, latest: bool) -> Component:
    entries = Entries(value, f"{_WHAT}.components", _COMPONENT_NAMES)
    entries.only((2, 5), (1, 4, 6, 7, 8) if latest else (1, 4, 6))
    return Component(
        kind=entries.text_or_none(1, limit=MAX_TEXT),
        measurement=entries.octets(2, DIGESTS),
        version=entries.text_or_none(4, limit=MAX_TEXT),
        signer=entries.octets(5, DIGESTS),
        hash_algorithm=entries.text_or_none(6, limit=MAX_TEXT),
        live_activation=entries.boolean(7) if 7 in entries else None,
        countersigners=entries.octets_array(8, DIGESTS, least=1, most=MAX_COUNTERSIGNERS)
        if 8 in entries
        else (),
    )
