"""Parse Entity Attestation Tokens as wrappers: find the evidence that they carry, in CBOR or JSON, signed or
not.

Nothing here is verified, and a token's own claims prove nothing: its profile specifies their meaning and
their signers. This module finds other evidence in a token (``measurements``, ``cmw`` and submodules), and the
nonces of the claims sets around it. A detached digest carries no evidence.

Spec: RFC 9711, "Nonce Claim", "Measurements Claim", "Submodules"; RFC 9781 (unsigned claims sets, CBOR tag
601); RFC 8392 (CWT, tag 61); RFC 9999, "cmw" claim.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from kluis.errors import FormatError, KluisError, UnsupportedError
from kluis.formats.encoding import b64, cbor, jcs
from kluis.formats.ietf import cmw, cmw_cbor, eat
from kluis.formats.ietf.cmw import Indicator, Part
from kluis.formats.ietf.cose import Sign1
from kluis.frozen import frozen

MAX_SIZE: Final = 4 << 20
MAX_HELD: Final = 32
MAX_DEPTH: Final = 4
MAX_NONCES: Final = 8
_WHAT: Final = "EAT"
_CWT: Final = b"\xd8\x3d"
_UNSIGNED: Final = b"\xd9\x02\x59"
_BUNDLE: Final = b"\xd9\x02\x5a"
_COSE: Final = (b"\xd2", b"\x84")
_JWT: Final = re.compile(rb"[A-Za-z0-9_-]{2,8192}\.[A-Za-z0-9_-]{2,5592408}\.[A-Za-z0-9_-]{0,8192}")
_JSON: Final = re.compile(rb'"(?:eat_nonce|eat_profile|ueid)"\s*:')
_NAMES: Final = {
    eat.NONCE: "eat_nonce",
    eat.UEID: "ueid",
    eat.PROFILE: "eat_profile",
    eat.SUBMODULES: "submods",
    eat.MEASUREMENTS: "measurements",
    eat.CMW: "cmw",
}
_CLAIMS: Final = frozenset(_NAMES.values())
# Tokens that are evidence by themselves, which is not verified here. PSA tokens have known profiles, the
# oldest with its own label (RFC 9783). TDX tokens by DICE have two claims that nothing else has (Intel).
_PSA: Final = (
    "tag:psacertified.org,2023:psa#tfm",
    "tag:psacertified.org,2019:psa#legacy",
    "http://arm.com/psa/2.0.0",
)
_OLDEST_PSA: Final = (-75000, "PSA_IOT_PROFILE_1")
_DICE: Final = (-212, -11)
_DEVICE: Final = "device"


class Form(enum.StrEnum):
    """The encoding of a token; unsigned claims sets are UCCS in CBOR and UJCS in JSON."""

    CWT = "CWT"
    UCCS = "UCCS"
    JWT = "JWT"
    UJCS = "UJCS"


@frozen
class Held:
    """The evidence at one place in a token.

    Attributes:
        part: the bytes and their declared type.
        nonces: of the claims sets around it, outermost first; each as the byte strings it may represent.
    """

    part: Part
    nonces: tuple[tuple[bytes, ...], ...]


@frozen(kw_only=True)
class Eat:
    """A token.

    Attributes:
        form: its encoding.
        nonces: its own, each as the byte strings it may represent: text is base64url, or itself.
        ueid: of the device, as claimed; or None.
        profile: defines the claims, as claimed: a URI, or the octets of an object identifier; or None.
        held: its evidence, by its place in the token.
        device: the kind of device evidence that the token itself is, which is not supported here; or None.
    """

    form: Form
    nonces: tuple[tuple[bytes, ...], ...]
    ueid: bytes | None
    profile: str | bytes | None
    held: Mapping[str, Held]
    device: str | None = None


def matches(data: bytes) -> bool:
    """Whether bytes are a token: in JSON by a claim's name, in CBOR by its claims' numbers."""
    first = data[:1]
    if first == b"{":
        return _JSON.search(data, 0, 1 << 16) is not None
    if data[:3] in (_UNSIGNED, _BUNDLE) or data[:2] == _CWT:
        return True
    if first not in _COSE and not b"\xa0" < first < b"\xbc":
        return matches_jwt(data)
    try:
        return bool(_binary(data))
    except KluisError:
        return False


def matches_jwt(data: bytes) -> bool:
    """Whether bytes are a signed JSON token: an EAT, or a service's attestation result."""
    return _JWT.fullmatch(data) is not None


def carries(data: bytes) -> bool:
    """Whether a signed JSON token is an EAT that contains evidence."""
    try:
        return bool(parse(data).held)
    except KluisError:
        return False


def parse(data: bytes) -> Eat:
    """Parse a token, at most 4 MiB.

    Raises:
        FormatError: malformed, with more than 32 parts, or 4 nested claims sets.
        UnsupportedError: a detached bundle, or a token signed with anything but COSE_Sign1.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"{_WHAT}: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    if data[:3] == _BUNDLE:
        raise UnsupportedError(f"{_WHAT}: a detached bundle is not handled", code="bad_type")
    if data[:1] == b"{":
        return _token(Form.UJCS, _text(data), binary=False)
    if matches_jwt(data):
        header, claims, _ = (b64.decode_url(part.decode(), _WHAT) for part in data.split(b"."))
        if not isinstance(jcs.loads(header, f"{_WHAT}.header", max_depth=8), dict):
            raise FormatError(f"{_WHAT}.header: want an object", code="bad_type")
        return _token(Form.JWT, _text(claims), binary=False)
    form = Form.CWT if data[:2] == _CWT or data[:1] in _COSE else Form.UCCS
    return _token(form, _binary(data), binary=True)


def _text(data: bytes) -> dict[str, Any]:
    """The claims of an EAT in a JSON claims set."""
    value = jcs.loads(data, _WHAT, max_size=MAX_SIZE)
    if not isinstance(value, dict):
        raise FormatError(f"{_WHAT}: want claims, got another value", code="bad_type")
    return {name: claim for name, claim in value.items() if name in _CLAIMS}


def _binary(data: bytes) -> dict[str, Any]:
    """The claims of an EAT in a CBOR token."""
    data = data.removeprefix(_CWT)
    if data[:1] in _COSE:
        data = Sign1.parse(data, _WHAT, max_size=MAX_SIZE).payload
    value = cbor.loads(data.removeprefix(_UNSIGNED), _WHAT, tags=cmw_cbor.TAGS, max_size=MAX_SIZE)
    if not isinstance(value, dict):
        raise FormatError(f"{_WHAT}: want claims, got another value", code="bad_type")
    device = _device(value)
    return _name_claims(value) if device is None else {**_name_claims(value), _DEVICE: device}


def _device(claims: dict[Any, Any]) -> str | None:
    label, oldest = _OLDEST_PSA
    if claims.get(eat.PROFILE) in _PSA or claims.get(label) == oldest:
        return "PSA token"
    return "TDX quote by DICE" if all(claim in claims for claim in _DICE) else None


def _name_claims(claims: dict[Any, Any]) -> dict[str, Any]:
    return {_NAMES[key]: claim for key, claim in claims.items() if type(key) is int and key in _NAMES}


def _token(form: Form, claims: dict[str, Any], *, binary: bool) -> Eat:
    walk = _Walk(binary)
    walk.claims(claims, "", (), 1)
    profile = claims.get("eat_profile")
    if profile is not None and not isinstance(profile, bytes | str if binary else str):
        raise FormatError(f"{_WHAT}.eat_profile: want a URI or an object identifier", code="bad_type")
    return Eat(
        form=form,
        nonces=walk.nonces(claims, ""),
        ueid=walk.octets(claims["ueid"], "ueid") if "ueid" in claims else None,
        profile=profile,
        held=MappingProxyType(walk.held),
        device=claims.get(_DEVICE),
    )


class _Walk:
    """Collects the evidence in nested claims sets; CBOR has bytes where JSON has base64url."""

    def __init__(self, binary: bool) -> None:
        self.binary = binary
        self.held: dict[str, Held] = {}

    def claims(
        self, claims: Mapping[str, Any], where: str, around: tuple[tuple[bytes, ...], ...], depth: int
    ) -> None:
        if depth > MAX_DEPTH:
            raise FormatError(
                f"{_WHAT}: more than {MAX_DEPTH} claims sets within each other", code="too_deep"
            )
        around += self.nonces(claims, where)
        measured = claims.get("measurements", [])
        for index, entry in enumerate(measured if isinstance(measured, list) else [measured]):
            self.record(f"{where}measurements[{index}]", entry, around)
        if "cmw" in claims:
            self.hold(f"{where}cmw", self.wrapper(claims["cmw"], where), around)
        submodules = claims.get("submods", {})
        if not isinstance(submodules, dict):
            raise FormatError(f"{_WHAT}.{where}submods: want a map", code="bad_type")
        for label, value in submodules.items():
            if not isinstance(label, str) or not cmw.is_label(label):
                raise FormatError(f"{_WHAT}.{where}submods: {label!a:.40} is no label", code="bad_encoding")
            self.submodule(f"{where}submods.{label}", value, around, depth)

    def submodule(self, where: str, value: Any, around: tuple[tuple[bytes, ...], ...], depth: int) -> None:
        match value:
            case dict():
                self.claims(_name_claims(value) if self.binary else value, f"{where}.", around, depth + 1)
            case bytes():
                self.hold(where, Part("application/eat+cwt", value), around)
            case str() if self.binary:
                self.selector(where, jcs.loads(value.encode(), f"{_WHAT}.{where}"), around)
            case list() if self.binary:
                # A digest of claims that are not in the token.
                return
            case _:
                self.selector(where, value, around)

    def selector(self, where: str, value: Any, around: tuple[tuple[bytes, ...], ...]) -> None:
        """A submodule in JSON that is not a claims set: it states its own type."""
        match value:
            case ["JWT", str(token)]:
                self.hold(where, Part("application/eat+jwt", token.encode()), around)
            case ["CBOR", str(token)]:
                self.hold(
                    where, Part("application/eat+cwt", b64.decode_url(token, f"{_WHAT}.{where}")), around
                )
            case ["DIGEST", _]:
                return
            case ["BUNDLE", _]:
                raise UnsupportedError(f"{_WHAT}.{where}: a detached bundle is not handled", code="bad_type")
            case _:
                self.record(where, value, around)

    def record(self, where: str, value: Any, around: tuple[tuple[bytes, ...], ...]) -> None:
        """A type, bytes, and optionally their purpose, as in a CMW record."""
        match value:
            case [kind, content, *rest] if cmw.is_type(kind) and len(rest) < 2:
                bits = rest[0] if rest else None
                if bits is None or (type(bits) is int and 0 < bits < 32):
                    indicator = None if bits is None else Indicator(bits)
                    self.hold(where, Part(kind, self.octets(content, where), indicator), around)
                    return
        raise FormatError(f"{_WHAT}.{where}: want a type and bytes", code="bad_type")

    def wrapper(self, value: Any, where: str) -> Part:
        """The ``cmw`` claim: a message in this token's own encoding, or its bytes."""
        if self.binary:
            return Part(cmw_cbor.NESTED, value if isinstance(value, bytes) else cbor.dumps(value))
        if isinstance(value, str):
            return Part(cmw.NESTED, b64.decode_url(value, f"{_WHAT}.{where}cmw"))
        if isinstance(value, dict):
            # The reader expects a collection's type where it is written first; RFC 9999 allows it anywhere.
            value = dict(sorted(value.items(), key=lambda member: member[0] != "__cmwc_t"))
        return Part(cmw.NESTED, json.dumps(value, separators=(",", ":")).encode())

    def octets(self, value: Any, where: str) -> bytes:
        if self.binary and isinstance(value, bytes):
            return value
        if not self.binary and isinstance(value, str):
            return b64.decode_url(value, f"{_WHAT}.{where}")
        raise FormatError(
            f"{_WHAT}.{where}: want bytes{'' if self.binary else ' in base64url'}", code="bad_type"
        )

    def nonces(self, claims: Mapping[str, Any], where: str) -> tuple[tuple[bytes, ...], ...]:
        value = claims.get("eat_nonce", [])
        values = value if isinstance(value, list) else [value]
        if len(values) > MAX_NONCES:
            raise FormatError(f"{_WHAT}.{where}eat_nonce: more than {MAX_NONCES}", code="too_large")
        return tuple(self.nonce(each, f"{where}eat_nonce") for each in values)

    def nonce(self, value: Any, where: str) -> tuple[bytes, ...]:
        if self.binary and isinstance(value, bytes) and 8 <= len(value) <= 64:
            return (value,)
        if not self.binary and isinstance(value, str) and 8 <= len(value) <= 88 and value.isascii():
            text = value.encode()
            try:
                decoded = b64.decode_url(value, where)
            except FormatError:
                return (text,)
            return (decoded, text) if len(decoded) >= 8 else (text,)
        raise FormatError(f"{_WHAT}.{where}: want a nonce of 8 to 64 bytes", code="bad_length")

    def hold(self, where: str, part: Part, around: tuple[tuple[bytes, ...], ...]) -> None:
        if len(self.held) == MAX_HELD:
            raise FormatError(f"{_WHAT}: carries more than {MAX_HELD} things", code="too_large")
        self.held[where] = Held(part, around)
