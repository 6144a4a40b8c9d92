"""Verify Arm CCA tokens and return their claims.

Spec: draft-ffm-rats-cca-token, "Verification"; the steps are numbered once, here, and each has a forged case
in the tests. A realm's token by itself proves nothing: it is self-signed.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from kluis.errors import AuthenticityError, UnavailableError
from kluis.evidence import signatures
from kluis.evidence.anchors import Anchor
from kluis.evidence.context import Context
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import NOT_JUDGED, Claims, Tee, VendorClaims
from kluis.evidence.model import Platform as Machine
from kluis.evidence.verified import Verified, mint
from kluis.formats import x509
from kluis.formats.cca import token as cca_token
from kluis.formats.cca.devices import Device, RootKey
from kluis.formats.cca.endorsements import Endorsements
from kluis.formats.cca.platform import Component, Lifecycle, Platform
from kluis.formats.cca.realm import HASHES, Realm
from kluis.formats.cca.token import Token
from kluis.formats.ietf.cose import CURVES, Sign1
from kluis.formats.x509 import PublicKey
from kluis.frozen import frozen
from kluis.hashes import Algorithm, Digest

KIND: Final = "CCA token"
LEVELS: Final = (ProtectionLevel.NONE, ProtectionLevel.HARDWARE_CCA)
# Tokens have no time: neither they nor their endorsements expire.
NEVER: Final = datetime.max.replace(tzinfo=UTC)
_PLATFORM: Final = "CCA platform token"
_REALM: Final = "CCA realm token"
_KEY: Final = "cca cpak"
_MEMORY: Final = "cca platform token"
_ALGORITHMS: Final[dict[int, Algorithm]] = {32: "sha256", 48: "sha384", 64: "sha512"}
_NAMES: Final = ("rem0", "rem1", "rem2", "rem3")


@frozen(kw_only=True)
class CcaClaims(VendorClaims):
    """The vendor-specific claims of a CCA token.

    Attributes:
        realm_profile: of the realm's token; None for the generation before profiles.
        platform_profile: of the platform's token.
        personalization_value: 64 bytes that the host chose when it made the realm.
        hash_algorithm: of the realm's measurements, which may be longer than its digests.
        realm_key: DER of the realm attestation key's SubjectPublicKeyInfo.
        implementation_id: 32 bytes, identifies the kind of platform.
        instance_id: 33 bytes, 0x01 and 32 that identify the platform.
        config: of the platform, opaque.
        lifecycle: of the platform; unless ``SECURED``, its vendor or owner can access it.
        state: the lifecycle's number, 0..0xffff.
        components: of the platform's firmware.
        verification_service: the verifier that the platform suggests. Never fetched.
        platform_hash_algorithm: of components that name none, or None.
        realm_id: 33 bytes, 0x01 and 32 that name the realm; or None.
        memory: ``private`` if a separate key encrypts the realm's memory, ``shared`` if not; or None.
        live_activation: whether firmware below the realm can be updated while it runs; or None.
        devices_digest: of the tokens of devices assigned to the realm; or None.
        manufacturing_config: of the platform, opaque; or None.
        devices: attached to the running platform.
        root_keys: keys that verify the platform's firmware.
        peer_signers: of the platform, opaque; or None.
    """

    realm_profile: str | None
    platform_profile: str
    personalization_value: bytes
    hash_algorithm: str
    realm_key: bytes
    implementation_id: bytes
    instance_id: bytes
    config: bytes
    lifecycle: Lifecycle
    state: int
    components: tuple[Component, ...]
    verification_service: str | None
    platform_hash_algorithm: str | None
    realm_id: bytes | None = None
    memory: str | None = None
    live_activation: bool | None = None
    devices_digest: bytes | None = None
    manufacturing_config: bytes | None = None
    devices: tuple[Device, ...] = ()
    root_keys: tuple[RootKey, ...] = ()
    peer_signers: bytes | None = None


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like CBOR with tag 399 or 907."""
    return cca_token.matches(data)


def verify(
    data: bytes, *, context: Context, collateral: Endorsements | None, now: datetime
) -> Verified[Claims]:
    """Verify one CCA token.

    1. It parses: two signed parts, each of a known profile, the realm's key on P-384.
    2. The platform's challenge is the digest of the realm's key, so both are of one realm.
    3. The realm's key, by the algorithm of its curve, signed the realm's part.
    4. The platform's key (CPAK) is an anchor of the context that may certify CCA platforms. The endorsements
       name the implementation and instance that the platform claims. Without endorsements, the only bare key
       among the anchors is used.
    5. The platform's key, by the algorithm of its curve, signed the platform's part.

    A platform that is not secured is still authentic: its claims have debug set and level ``none``.

    Args:
        data: the token.
        context: the trusted roots and the rest of the verifier's state.
        collateral: the platform's key; None to use the only bare key among the anchors.
        now: aware; tokens and keys have no time.

    Raises:
        FormatError: the token or the key is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        UnavailableError: the platform's key is unknown; nothing is verified then.
    """
    token = Token.parse(data)  # 1
    message = cca_token.message(token.realm, _REALM)
    realm = Realm.parse(message.payload)
    anchor = _anchor(context, collateral)
    platform, unproven = _platform(token.platform, anchor, context)
    bound = hashlib.new(HASHES[realm.public_key_hash_algorithm], realm.public_key_bytes).digest()
    if not hmac.compare_digest(bound, platform.challenge):  # 2
        raise AuthenticityError(f"{_PLATFORM}: does not bind this realm's key", code="key_binding")
    _check(message, realm.public_key, _REALM, context)  # 3
    if anchor is None:  # 4
        raise UnavailableError(
            f"{_PLATFORM}: the key of instance {platform.instance_id.hex()} is not known",
            hint=(
                "name the platform's public key (CPAK), as its vendor publishes it, as a root: --root"
                " cpak.pem --root-level hardware-cca"
            ),
            code="collateral_missing",
        )
    _check_ids(platform, collateral)
    if unproven is not None:  # 5
        _check(unproven, x509.parse_public_key(anchor.spki, "CPAK"), _PLATFORM, context)
        context.memory.put(_MEMORY, anchor.spki + token.platform, platform)
    return mint(_claims(realm, platform, anchor, now))


def _anchor(context: Context, collateral: Endorsements | None) -> Anchor | None:
    """The expected platform key: from the endorsements, or the only trusted bare key."""
    if collateral is None:
        bare = [anchor for anchor in context.anchors if not anchor.vendor and anchor.level in LEVELS]
        return bare[0] if len(bare) == 1 else None
    anchor = context.anchors.match(_key(collateral, context).spki)
    if anchor is None:
        raise AuthenticityError(
            f"CPAK: want key {' or '.join(a.name for a in context.anchors)}, got another",
            hint="name the platform's key as one that you trust with --root",
            code="root_untrusted",
        )
    if anchor.level not in LEVELS:
        raise AuthenticityError(
            f"CPAK: want a key of {ProtectionLevel.HARDWARE_CCA}, got {anchor.name} of {anchor.level}",
            code="root_untrusted",
        )
    return anchor


def _key(collateral: Endorsements, context: Context) -> PublicKey:
    key: PublicKey | None = context.memory.get(_KEY, collateral.cpak)
    if key is None:
        key = collateral.key
        context.memory.put(_KEY, collateral.cpak, key)
    return key


def _platform(data: bytes, anchor: Anchor | None, context: Context) -> tuple[Platform, Sign1 | None]:
    """The platform's claims, and their message; None if this key's signature on these bytes was already
    verified.
    """
    if anchor is not None:
        platform: Platform | None = context.memory.get(_MEMORY, anchor.spki + data)
        if platform is not None:
            return platform, None
    message = cca_token.message(data, _PLATFORM)
    return Platform.parse(message.payload), message


def _check(message: Sign1, key: PublicKey, what: str, context: Context) -> None:
    scheme = message.scheme(what)
    if CURVES[scheme] is not key.kind:
        raise AuthenticityError(
            f"{what}.protected: want the algorithm of a key on {key.kind.value}, got {scheme.value}",
            code="sig_token",
        )
    signatures.check_raw(
        message.signature, message.signed_bytes(), key.spki, scheme, what, context=context, code="sig_token"
    )


def _check_ids(platform: Platform, collateral: Endorsements | None) -> None:
    if collateral is None:
        return
    for name in ("implementation_id", "instance_id"):
        want, got = getattr(collateral, name), getattr(platform, name)
        if want is not None and want != got:
            raise AuthenticityError(
                f"{_PLATFORM}.{name}: want {want.hex()}, whose key is given, got {got.hex()}",
                code="root_untrusted",
            )


def _claims(realm: Realm, platform: Platform, anchor: Anchor, now: datetime) -> Claims:
    lifecycle = platform.lifecycle
    debug = lifecycle is not Lifecycle.SECURED
    return Claims(
        kind=KIND,
        tee=Tee.CCA,
        level=ProtectionLevel.NONE if debug else anchor.level,
        anchor=anchor.name,
        debug=debug,
        measurement=_digest(realm.initial_measurement),
        signer=None,
        product_id=None,
        svn=None,
        config_id=None,
        family_id=None,
        registers=MappingProxyType(
            dict(zip(_NAMES, map(_digest, realm.extensible_measurements), strict=True))
        ),
        report_data=b"",
        nonce=realm.challenge,
        tcb=NOT_JUDGED,
        platform=Machine(id=platform.instance_id, product=platform.implementation_id.hex()),
        collateral_issued=None,
        valid_until=NEVER,
        verified_at=now,
        vendor=CcaClaims(
            realm_profile=realm.profile,
            platform_profile=platform.profile,
            personalization_value=realm.personalization_value,
            hash_algorithm=realm.hash_algorithm,
            realm_key=realm.public_key.spki,
            implementation_id=platform.implementation_id,
            instance_id=platform.instance_id,
            config=platform.config,
            lifecycle=lifecycle,
            state=platform.state,
            components=platform.components,
            verification_service=platform.verification_service,
            platform_hash_algorithm=platform.hash_algorithm,
            realm_id=realm.instance_id,
            memory=realm.memory,
            live_activation=realm.live_activation,
            devices_digest=realm.devices,
            manufacturing_config=platform.manufacturing_config,
            devices=platform.devices,
            root_keys=platform.root_keys,
            peer_signers=platform.peer_signers,
        ),
    )


def _digest(value: bytes) -> Digest:
    # Chosen by the measurement's length: genuine tokens that name SHA-256 have measurements of 64 bytes.
    return Digest(_ALGORITHMS[len(value)], value)
