"""Parse CoRIM manifests of reference values, limited to digests and registers. Nothing here is verified.

    corim    = 501({0: id, 1: [+ 506(bytes .cbor comid)], ? 4: {? 0: not before, ? 1: not after}, ...})
    comid    = {1: {0: tag id}, 4: {? 0: [+ [environment, [+ measurement]]], ...}, ...}
    measured = {? 0: key, 1: {? 2: [+ digest], ? 14: {register: [+ digest]}, ...}}
    digest   = [algorithm, bytes]

Other tags and other triples are skipped: they only add to the description of a device. Whatever restricts it
is reported: a profile, an environment of a single device, and every condition listed next to digests,
including an authority. A CoMID that another CoMID or its own later version replaces is omitted. Old manifests
use tag 500, and have a single measurement instead of a list.

Spec: draft-ietf-rats-corim, "CoRIM Map", "Meta Map", "CoMID", "Linked Tag", "Reference Values Triple",
"Measurement Values".
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import cbor
from kluis.formats.encoding.cbor import Tagged, Value
from kluis.formats.ietf.cose import Sign1
from kluis.frozen import frozen
from kluis.hashes import SIZES, Algorithm

WHAT: Final = "CoRIM"
MAX_SIZE: Final = 1 << 20
MAX_DEPTH: Final = 16
MAX_TIME: Final = 253402300799
CORIM, UNSIGNED, COMID, TIME = 500, 501, 506, 1
_TAGS: Final = range(1 << 16)
_META: Final = 8  # of the protected header
_REPLACES: Final = 1
_VERSION, _DIGESTS, _NAME, _REGISTERS = 0, 2, 11, 14
_MEASURED: Final = frozenset({0, 1})  # a measurement's key, and its values
# These describe what a digest is of. Any other value next to a digest is a condition: the digest holds only
# if the value matches too.
_TELLING: Final = frozenset({_VERSION, _DIGESTS, _NAME, _REGISTERS})
_ALGORITHMS: Final[dict[int | str, Algorithm]] = {
    1: "sha256",
    7: "sha384",
    8: "sha512",
    "sha-256": "sha256",
    "sha-384": "sha384",
    "sha-512": "sha512",
}


@frozen(kw_only=True)
class Measurement:
    """The accepted values of one measured object.

    Attributes:
        comid: the position of its CoMID; values of one CoMID belong together.
        vendor: of its environment's class, or None.
        model: of its environment's class, or None.
        single: whether its environment is one device or one group, not a whole class.
        conditions: names of other values that must match for the digests to hold.
        key: identifies it within the environment: a number, a name, or None.
        digests: accepted SHA-2 digests.
        registers: accepted digests by register number or name.
    """

    comid: int
    vendor: str | None
    model: str | None
    single: bool
    conditions: tuple[int | str, ...]
    key: int | str | None
    digests: frozenset[bytes]
    registers: dict[int | str, frozenset[bytes]]


@frozen(kw_only=True)
class Corim:
    """A manifest.

    Attributes:
        id: text, or a UUID in hex.
        profile: a URI, or an object identifier's octets in hex; None if there is none. A reader that does not
            know the profile must not use the manifest.
        not_before: aware, or None; the later of the manifest's and its signature's.
        not_after: aware, or None; the sooner of the two.
        measurements: of all reference triples.
        message: the signature around it, unchecked; None for an unsigned manifest.
    """

    id: str
    profile: str | None
    not_before: datetime | None
    not_after: datetime | None
    measurements: tuple[Measurement, ...]
    message: Sign1 | None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a manifest, signed or not, at most 1 MiB.

        Raises:
            FormatError: not a manifest in strict CBOR.
        """
        message = None
        data = _without(data, CORIM)
        if matches_signed(data):
            message = Sign1.parse(data, WHAT, max_size=MAX_SIZE)
            data = message.payload
        value = _untag(_load(data, WHAT), UNSIGNED, WHAT)
        top = _map(value, WHAT)
        not_before, not_after = _window([top.get(4), _of_signature(message)])
        return cls(
            id=_format_identity(top.get(0)),
            profile=None if 3 not in top else _format_identity(top[3]),
            not_before=not_before,
            not_after=not_after,
            measurements=tuple(
                one
                for position, comid in enumerate(_standing(_list(top.get(1), f"{WHAT}.tags")))
                for one in _comid(comid, position)
            ),
            message=message,
        )


def matches(data: bytes) -> bool:
    """Whether ``data`` starts like a manifest: tag 500, 501 or 18."""
    return data[:3] in (b"\xd9\x01\xf4", b"\xd9\x01\xf5") or matches_signed(data)


def matches_signed(data: bytes) -> bool:
    """Whether ``data`` starts like a signed manifest: a tagged COSE_Sign1."""
    return data[:2] == b"\xd2\x84"


def _without(data: bytes, tag: int) -> bytes:
    head = cbor.head(6, tag)
    return data[len(head) :] if data.startswith(head) else data


def _load(data: bytes, what: str) -> Value:
    return cbor.loads(data, what, tags=_TAGS, max_size=MAX_SIZE, max_depth=MAX_DEPTH)


def _standing(tags: list[Value]) -> Iterator[dict[int | str, Value]]:
    """The CoMIDs that no other replaces; of each identity only the latest version."""
    latest: dict[str, tuple[int, list[dict[int | str, Value]]]] = {}
    replaced: set[str] = set()
    for tag in tags:
        if not isinstance(tag, Tagged) or tag.tag != COMID:
            continue
        if not isinstance(tag.value, bytes):
            raise _wrong("CoMID", "bytes")
        comid = _map(_load(tag.value, "CoMID"), "CoMID")
        named = _map(comid.get(1, {}), "CoMID.tag-identity")
        version = named.get(1, 0)
        if type(version) is not int:
            raise _wrong("CoMID.tag-version", "an integer")
        for link in _list(comid.get(3, []), "CoMID.linked-tags"):
            to = _map(link, "CoMID.linked-tag")
            if to.get(1) == _REPLACES:
                replaced.add(_format_identity(to.get(0)))
        name = _format_identity(named.get(0))
        newest, same = latest.get(name, (version, []))
        if version > newest:
            same = []
        if version >= newest:
            same.append(comid)
            latest[name] = (version, same)
    for name, (_, comids) in latest.items():
        if name not in replaced:
            yield from comids


def _comid(comid: dict[int | str, Value], position: int) -> Iterator[Measurement]:
    triples = _map(comid.get(4), "CoMID.triples")
    for record in _list(triples.get(0, []), "CoMID.reference-triples"):
        environment, measured = _pair(record, "CoMID.reference-triples")
        where = _map(environment, "CoMID.environment")
        for one in measured if isinstance(measured, list) else [measured]:
            yield _measurement(_map(one, "CoMID.measurement"), where, position)


def _measurement(one: dict[int | str, Value], where: dict[int | str, Value], position: int) -> Measurement:
    kind = _map(where.get(0, {}), "CoMID.class")
    vendor, model = kind.get(1), kind.get(2)
    key = one.get(0)
    values = _map(one.get(1), "CoMID.measurement-values")
    registers = _map(values.get(_REGISTERS, {}), "CoMID.integrity-registers")
    other = key is not None and (type(key) is bool or not isinstance(key, int | str))
    values_by_name: dict[int | str, Value] = {f"register {name}": each for name, each in registers.items()}
    if _DIGESTS in values:
        values_by_name[_DIGESTS] = values[_DIGESTS]
    # Only digests of algorithms that are not known here: they are a condition that cannot be checked.
    unread = [name for name, each in values_by_name.items() if not _digests(each)]
    # The required authority, and the values of an extension: both are conditions like any other value.
    unread += [f"measurement {name}" for name in one if name not in _MEASURED]
    return Measurement(
        comid=position,
        vendor=vendor if isinstance(vendor, str) else None,
        model=model if isinstance(model, str) else None,
        single=1 in where or 2 in where,
        conditions=tuple(sorted((*(name for name in values if name not in _TELLING), *unread), key=str)),
        key=None if other or not isinstance(key, int | str) else key,
        # A key of another kind (a UUID, an object identifier) identifies something not known here.
        digests=frozenset() if other or _DIGESTS not in values else _digests(values[_DIGESTS]),
        registers={name: _digests(each) for name, each in registers.items()},
    )


def _digests(value: Value) -> frozenset[bytes]:
    digests: set[bytes] = set()
    entries = _list(value, "CoMID.digests")
    if not entries:
        raise FormatError("CoMID.digests: want at least 1, got 0", code="bad_length")
    for entry in entries:
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
        digests.add(digest)
    return frozenset(digests)


def _of_signature(message: Sign1 | None) -> Value:
    """The validity period that a signature states."""
    meta = message.headers.get(_META) if message else None
    if meta is None:
        return None
    if not isinstance(meta, bytes):
        raise _wrong(f"{WHAT}.corim-meta", "bytes")
    return _map(_load(meta, f"{WHAT}.corim-meta"), f"{WHAT}.corim-meta").get(1)


def _window(validities: list[Value]) -> tuple[datetime | None, datetime | None]:
    """The period in which all of them are valid."""
    times = [_map(each, f"{WHAT}.rim-validity") for each in validities if each is not None]
    starts, ends = ([instant for each in times if (instant := _time(each.get(end)))] for end in (0, 1))
    return max(starts, default=None), min(ends, default=None)


def _format_identity(identity: Value) -> str:
    value = identity.value if isinstance(identity, Tagged) else identity
    return value.hex() if isinstance(value, bytes) else str(value)


def _time(value: Value) -> datetime | None:
    if value is None:
        return None
    seconds = value.value if isinstance(value, Tagged) and value.tag == TIME else value
    if type(seconds) is not int or not 0 <= seconds <= MAX_TIME:
        raise _wrong(f"{WHAT}.rim-validity", "times in whole seconds")
    return datetime.fromtimestamp(seconds, UTC)


def _untag(value: Value, tag: int, what: str) -> Value:
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
