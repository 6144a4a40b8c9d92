"""CoRIM: a manifest of reference values, as far as digests and registers go. Nothing here is verified.

    corim    = 501({0: id, 1: [+ 506(bytes .cbor comid)], ? 4: {? 0: not before, ? 1: not after}, ...})
    comid    = {1: {0: tag id}, 4: {? 0: [+ [environment, [+ measurement]]], ...}, ...}
    measured = {? 0: key, 1: {? 2: [+ digest], ? 14: {register: [+ digest]}, ...}}
    digest   = [algorithm, bytes]

Tags of other kinds, triples of other kinds and values of other kinds are passed over: they add to what
may be known of a device, and take nothing from it. Old manifests stand under tag 500, and put the
number of their list of measurements for one.

Spec: draft-ietf-rats-corim, "CoRIM Map", "CoMID", "Reference Values Triple", "Measurement Values".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats import cbor
from kluis.formats.cbor import Tagged, Value
from kluis.formats.cose import Sign1
from kluis.hashes import SIZES, Algorithm

WHAT: Final = "CoRIM"
MAX_SIZE: Final = 1 << 20
MAX_DEPTH: Final = 16
MAX_TIME: Final = 253402300799
CORIM, UNSIGNED, COMID, SIGN1, TIME = 500, 501, 506, 18, 1
_TAGS: Final = range(1 << 16)
_ALGORITHMS: Final[dict[int | str, Algorithm]] = {
    1: "sha256",
    7: "sha384",
    8: "sha512",
    "sha-256": "sha256",
    "sha-384": "sha384",
    "sha-512": "sha512",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The values that one thing may have.

    Attributes:
        vendor: of its environment's class, or None.
        model: likewise.
        key: what it is within the environment: a number, a name, or None.
        digests: SHA-2 digests, each of which it may have.
        registers: by number or name, the digests that each may have.
    """

    vendor: str | None
    model: str | None
    key: int | str | None
    digests: frozenset[bytes]
    registers: dict[int | str, frozenset[bytes]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Corim:
    """A manifest.

    Attributes:
        id: text, or a UUID in hex.
        not_before: aware, or None.
        not_after: likewise.
        measurements: of all reference triples.
        message: the signature around it, unchecked; None of an unsigned manifest.
    """

    id: str
    not_before: datetime | None
    not_after: datetime | None
    measurements: tuple[Measurement, ...]
    message: Sign1 | None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a manifest, signed or not, at most 1 MiB.

        Raises:
            FormatError: not a manifest in strict CBOR.
        """
        message = None
        data = _without(data, CORIM)
        if matches_signed(data):
            message = Sign1.parse(data, WHAT, max_size=MAX_SIZE)
            data = message.payload
        value = _tagged(_load(data, WHAT), UNSIGNED, WHAT)
        top = _map(value, WHAT)
        identity = top.get(0)
        not_before, not_after = _validity(top.get(4))
        found: list[Measurement] = []
        for tag in _list(top.get(1), f"{WHAT}.tags"):
            if isinstance(tag, Tagged) and tag.tag == COMID:
                if not isinstance(tag.value, bytes):
                    raise _wrong("CoMID", "bytes")
                found += _comid(_map(_load(tag.value, "CoMID"), "CoMID"))
        return cls(
            id=identity.hex() if isinstance(identity, bytes) else str(identity),
            not_before=not_before,
            not_after=not_after,
            measurements=tuple(found),
            message=message,
        )


def matches(data: bytes) -> bool:
    """Whether ``data`` begins as a manifest: under tag 500, 501 or 18."""
    return data[:3] in (b"\xd9\x01\xf4", b"\xd9\x01\xf5") or matches_signed(data)


def matches_signed(data: bytes) -> bool:
    """Whether ``data`` begins as a signed manifest: a COSE_Sign1 under its tag."""
    return data[:2] == b"\xd2\x84"


def _without(data: bytes, tag: int) -> bytes:
    head = cbor.head(6, tag)
    return data[len(head) :] if data.startswith(head) else data


def _load(data: bytes, what: str) -> Value:
    return cbor.loads(data, what, tags=_TAGS, max_size=MAX_SIZE, max_depth=MAX_DEPTH)


def _comid(comid: dict[int | str, Value]) -> Iterator[Measurement]:
    triples = _map(comid.get(4), "CoMID.triples")
    for record in _list(triples.get(0, []), "CoMID.reference-triples"):
        environment, measured = _pair(record, "CoMID.reference-triples")
        of = _map(environment, "CoMID.environment").get(0, {})
        kind = _map(of, "CoMID.class")
        vendor, model = kind.get(1), kind.get(2)
        for one in measured if isinstance(measured, list) else [measured]:
            yield _measurement(
                _map(one, "CoMID.measurement"),
                vendor if isinstance(vendor, str) else None,
                model if isinstance(model, str) else None,
            )


def _measurement(one: dict[int | str, Value], vendor: str | None, model: str | None) -> Measurement:
    key = one.get(0)
    values = _map(one.get(1), "CoMID.measurement-values")
    registers = _map(values.get(14, {}), "CoMID.integrity-registers")
    other = key is not None and (type(key) is bool or not isinstance(key, int | str))
    return Measurement(
        vendor=vendor,
        model=model,
        key=None if other or not isinstance(key, int | str) else key,
        # A key of another kind (a UUID, an object identifier) names what is not known here.
        digests=frozenset() if other else _digests(values.get(2, [])),
        registers={name: _digests(each) for name, each in registers.items()},
    )


def _digests(value: Value) -> frozenset[bytes]:
    found: set[bytes] = set()
    for entry in _list(value, "CoMID.digests"):
        algorithm, digest = _pair(entry, "CoMID.digest")
        if not isinstance(digest, bytes) or type(algorithm) is bool or not isinstance(algorithm, int | str):
            raise _wrong("CoMID.digest", "an algorithm and bytes")
        known = _ALGORITHMS.get(algorithm)
        if known is None:
            continue
        if len(digest) != SIZES[known]:
            raise FormatError(
                f"CoMID.digest: want {SIZES[known]} bytes of {known}, got {len(digest)}", code="bad_length"
            )
        found.add(digest)
    return frozenset(found)


def _validity(value: Value) -> tuple[datetime | None, datetime | None]:
    if value is None:
        return None, None
    times = _map(value, f"{WHAT}.rim-validity")
    return _time(times.get(0)), _time(times.get(1))


def _time(value: Value) -> datetime | None:
    if value is None:
        return None
    seconds = value.value if isinstance(value, Tagged) and value.tag == TIME else value
    if type(seconds) is not int or not 0 <= seconds <= MAX_TIME:
        raise _wrong(f"{WHAT}.rim-validity", "times in whole seconds")
    return datetime.fromtimestamp(seconds, UTC)


def _tagged(value: Value, tag: int, what: str) -> Value:
    if not isinstance(value, Tagged) or value.tag != tag:
        raise _wrong(what, f"tag {tag}")
    return value.value


def _map(value: Value, what: str) -> dict[int | str, Value]:
    if not isinstance(value, dict):
        raise _wrong(what, "a map")
    return value


def _list(value: Value, what: str) -> list[Value]:
    if not isinstance(value, list):
        raise _wrong(what, "a list")
    return value


def _pair(value: Value, what: str) -> tuple[Value, Value]:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(what, "a list of 2")
    return value[0], value[1]


def _wrong(what: str, want: str) -> FormatError:
    return FormatError(f"{what}: want {want}, got another kind", code="bad_type")
