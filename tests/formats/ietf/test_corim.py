"""CoRIM: what the draft's own examples say, what is refused, and nothing foreign escapes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given

from kluis.errors import FormatError, KluisError
from kluis.formats.ietf import corim, cose
from kluis.formats.ietf.corim import Corim
from tests.strategies import PROPERTY, mutations

DIGEST = bytes.fromhex("44aa336af4cb14a879432e53dd6571c7fa9bccafb75f488259262d6ea3a4d91b")
UUID = bytes.fromhex("67b28b6c34cc40a19117ab5b05911e37")
KEY = ec.generate_private_key(ec.SECP256R1())


def comid(*measurements: Any, kind: Any = None) -> Any:
    """A CoMID of one reference triple, as the draft's example has it."""
    of = {0: cbor2.CBORTag(37, UUID), 1: "ACME Inc.", 2: "ACME RoadRunner", 3: 1} if kind is None else kind
    tag = {
        1: {0: UUID},
        2: [{0: "ACME Inc.", 1: cbor2.CBORTag(32, "https://acme.example"), 2: [0]}],
        4: {0: [[{0: of}, list(measurements)]]},
    }
    return cbor2.CBORTag(506, cbor2.dumps(tag))


def manifest(*tags: Any, **more: Any) -> bytes:
    """An unsigned manifest."""
    return cbor2.dumps(
        cbor2.CBORTag(501, {0: UUID, 1: list(tags), **{int(k[1:]): v for k, v in more.items()}})
    )


VERSIONED = {1: {0: {0: "1.0.0", 1: 16384}, 2: [[1, DIGEST]]}}
EXAMPLE = manifest(comid(VERSIONED))


def test_the_drafts_example() -> None:
    """The draft's first example is read: one digest, of ACME's road runner."""
    read = Corim.parse(EXAMPLE)
    (one,) = read.measurements
    assert (one.vendor, one.model, one.key) == ("ACME Inc.", "ACME RoadRunner", None)
    assert one.digests == {DIGEST}
    assert (read.id, read.not_before, read.not_after, read.message) == (UUID.hex(), None, None, None)
    assert corim.matches(EXAMPLE)


def test_integrity_registers() -> None:
    """The draft's example of registers is read; digests of unknown algorithms are passed over."""
    registers = {0: [[1, DIGEST], ["my-alg-id", b"\xde\xad\xbe\xef"]], "rtmr1": [["sha-384", b"\1" * 48]]}
    (one,) = Corim.parse(manifest(comid({1: {14: registers}}))).measurements
    assert one.registers == {0: frozenset({DIGEST}), "rtmr1": frozenset({b"\1" * 48})}


@pytest.mark.parametrize(
    ("algorithm", "size"), [(1, 32), ("sha-256", 32), (7, 48), ("sha-384", 48), (8, 64), ("sha-512", 64)]
)
def test_algorithms(algorithm: int | str, size: int) -> None:
    """SHA-2 of 256 bits and more is known by number and by name, and must have its size."""
    good, wrong = b"\1" * size, b"\1" * (size - 1)
    (one,) = Corim.parse(manifest(comid({1: {2: [[algorithm, good]]}}))).measurements
    assert one.digests == {good}
    with pytest.raises(FormatError, match=f"want {size} bytes of sha"):
        Corim.parse(manifest(comid({1: {2: [[algorithm, wrong]]}})))


def test_what_must_be_so_too() -> None:
    """A version and a name describe the digests; any other member is a condition."""
    telling = {0: {0: "1.0.0"}, 2: [[1, DIGEST]], 11: "firmware", 14: {0: [[1, DIGEST]]}}
    (one,) = Corim.parse(manifest(comid({0: "x", 1: telling}))).measurements
    assert one.conditions == ()
    others = dict.fromkeys((1, 3, 4, 10, 12, 13, 15), 7)
    (one,) = Corim.parse(manifest(comid({1: {**telling, **others}}))).measurements
    assert one.conditions == (1, 10, 12, 13, 15, 3, 4)


def test_older_shapes() -> None:
    """A manifest under tag 500, and a bare measurement, are read, too."""
    tag = {1: {0: "id"}, 4: {0: [[{0: {2: "SNP"}}, {0: 641, 1: {2: [[7, b"\2" * 48]]}}]]}}
    inner = manifest(cbor2.CBORTag(506, cbor2.dumps(tag)))
    (one,) = Corim.parse(b"\xd9\x01\xf4" + inner).measurements
    assert (one.key, one.digests) == (641, {b"\2" * 48})


def test_validity() -> None:
    """Validity is read in tagged seconds, or in plain ones."""
    read = Corim.parse(manifest(comid(VERSIONED), _4={0: cbor2.CBORTag(1, 0), 1: 86400}))
    assert read.not_before == datetime(1970, 1, 1, tzinfo=UTC)
    assert read.not_after == datetime(1970, 1, 2, tzinfo=UTC)


def test_of_two_validities_the_narrower() -> None:
    """A manifest and its signature may each begin later, and each end sooner."""
    for one, other in (((1, 9), (3, 7)), ((3, 7), (1, 9)), ((1, 7), (3, 9)), ((3, 9), (1, 7))):
        (start, end), (signed_start, signed_end) = one, other
        meta = cbor2.dumps({0: {0: "somebody"}, 1: {0: signed_start, 1: signed_end}})
        read = Corim.parse(cose.sign1(manifest(comid(VERSIONED), _4={0: start, 1: end}), KEY, {8: meta}))
        assert read.not_before == datetime.fromtimestamp(3, UTC)
        assert read.not_after == datetime.fromtimestamp(7, UTC)
    last = Corim.parse(manifest(comid(VERSIONED), _4={1: corim.MAX_TIME}))
    assert last.not_after == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_what_may_go_without_saying() -> None:
    """An environment may be of no class, and an identity of a manifest may be a number."""
    bare = cbor2.CBORTag(506, cbor2.dumps({1: {0: "id"}, 4: {0: [[{}, [VERSIONED]]]}}))
    read = Corim.parse(cbor2.dumps(cbor2.CBORTag(501, {0: 7, 1: [bare]})))
    assert (read.id, read.measurements[0].vendor, read.measurements[0].model) == ("7", None, None)
    assert corim.matches(b"\xd9\x01\xf4")
    assert not corim.matches(b"\xd9\x01\xf3")


def test_signed() -> None:
    """A signed manifest keeps its signature, unchecked."""
    assert not corim.matches(b"\xd2\x83")
    data = cose.sign1(EXAMPLE, KEY, {3: "application/rim+cbor"})
    read = Corim.parse(data)
    assert read.message is not None
    assert read.measurements == Corim.parse(EXAMPLE).measurements
    assert corim.matches(data)


def test_what_is_passed_over() -> None:
    """Other tags, other triples, and keys of other kinds name nothing that is known here."""
    other = cbor2.CBORTag(505, b"")
    (one,) = Corim.parse(manifest(other, comid({0: cbor2.CBORTag(37, UUID), **VERSIONED}))).measurements
    assert (one.key, one.digests) == (None, frozenset())
    tag = {1: {0: "id"}, 4: {1: []}}
    assert Corim.parse(manifest(cbor2.CBORTag(506, cbor2.dumps(tag)))).measurements == ()
    (bare,) = Corim.parse(manifest(comid(VERSIONED, kind={1: 7, 2: 7}))).measurements
    assert (bare.vendor, bare.model) == (None, None)


def _tag(identity: Any, digest: bytes, *links: Any, version: int = 0) -> Any:
    """A CoMID with an identity, which links to others."""
    said = {1: {0: identity, 1: version}, 4: {0: [[{0: {2: "SNP"}}, [{1: {2: [[1, digest]]}}]]]}}
    return cbor2.CBORTag(506, cbor2.dumps({**said, **({3: list(links)} if links else {})}))


def test_what_another_replaces_is_not_there() -> None:
    """Anything that a CoMID corrects, or a later version replaces, is ignored everywhere."""
    wrong, right = b"\1" * 32, b"\2" * 32
    replacing = _tag("new", right, {0: UUID, 1: 1})
    later = _tag(UUID, right, version=1)
    for tags in ((_tag(UUID, wrong), other) for other in (replacing, later)):
        for each in (tags, tags[::-1]):
            assert [one.digests for one in Corim.parse(manifest(*each)).measurements] == [{right}]
    beside = _tag("new", right, {0: UUID, 1: 0})
    assert len(Corim.parse(manifest(_tag(UUID, wrong), beside)).measurements) == 2
    assert len(Corim.parse(manifest(_tag(UUID, wrong), _tag(UUID, right))).measurements) == 2


def _with(value: Any) -> Any:
    return cbor2.CBORTag(506, cbor2.dumps(value))


def test_tags_of_other_kinds() -> None:
    """Nothing but a CoMID is read as one, and a link that replaces nothing takes nothing away."""
    tags = [cbor2.CBORTag(505, b"x"), cbor2.CBORTag(508, b"x"), _tag(UUID, DIGEST, {0: UUID, 1: 2}), "x"]
    (one,) = Corim.parse(manifest(*tags)).measurements
    assert one.digests == {DIGEST}


def test_a_first_version_may_go_without_saying() -> None:
    """A CoMID without a version has version 0, and is kept together with another version."""
    said = cbor2.loads(_tag(UUID, b"\1" * 32).value)
    del said[1][1]
    read = Corim.parse(manifest(_with(said), _tag(UUID, b"\2" * 32)))
    assert [one.digests for one in read.measurements] == [{b"\1" * 32}, {b"\2" * 32}]


def test_a_key_of_true() -> None:
    """Truth is no number of a register, and no name of a measurement."""
    (one,) = Corim.parse(manifest(comid({0: True, 1: {2: [[1, DIGEST]]}}))).measurements
    assert (one.key, one.digests) == (None, frozenset())


REFUSED: dict[str, bytes] = {
    "a version that is text": manifest(_tag("id", DIGEST, version="1")),  # type: ignore[arg-type]
    "a header that is no bytes": cose.sign1(EXAMPLE, KEY, {8: "meta"}),
    "no tag": cbor2.dumps({0: "id", 1: []}),
    "no map": cbor2.dumps(cbor2.CBORTag(501, [])),
    "no tags": cbor2.dumps(cbor2.CBORTag(501, {0: "id"})),
    "a CoMID that is no bytes": manifest(cbor2.CBORTag(506, {})),
    "no triples": manifest(cbor2.CBORTag(506, cbor2.dumps({1: {}}))),
    "a triple of three": manifest(cbor2.CBORTag(506, cbor2.dumps({4: {0: [[{}, [], 1]]}}))),
    "a digest of another size": manifest(comid({1: {2: [[1, b"\1" * 48]]}})),
    "a short digest": manifest(comid({1: {2: [[1, b"\1" * 31]]}})),
    "a digest of text": manifest(comid({1: {2: [[1, "x" * 32]]}})),
    "a digest of a list": manifest(comid({1: {2: [[[1], DIGEST]]}})),
    "a digest of three": manifest(comid({1: {2: [[1, DIGEST, 1]]}})),
    "digests that are no list": manifest(comid({1: {2: {1: DIGEST}}})),
    "registers that are no map": manifest(comid({1: {14: [[1, DIGEST]]}})),
    "values that are no map": manifest(comid({1: [[1, DIGEST]]})),
    "no values": manifest(comid({0: 1})),
    "a measurement that is text": manifest(comid("x")),
    "a class that is text": manifest(comid(VERSIONED, kind="TDX")),
    "an environment that is text": manifest(_with({4: {0: [["TDX", [VERSIONED]]]}})),
    "triples that are no list": manifest(_with({4: {0: {}}})),
    "an identity that is text": manifest(_with({1: "id", 4: {}})),
    "links that are no list": manifest(_with({3: {}, 4: {}})),
    "a link that is text": manifest(_with({3: ["id"], 4: {}})),
    "a CoMID that is a list": manifest(_with([])),
    "a digest without bytes": manifest(comid({1: {2: [[1, "x"]]}})),
    "a digest of true": manifest(comid({1: {2: [[True, DIGEST]]}})),
    "a time that is text": manifest(comid(VERSIONED), _4={0: "now"}),
    "a time before times": manifest(comid(VERSIONED), _4={0: cbor2.CBORTag(1, -1)}),
    "a time long after times": manifest(comid(VERSIONED), _4={0: 1, 1: corim.MAX_TIME + 1}),
    "a time under another tag": manifest(comid(VERSIONED), _4={0: cbor2.CBORTag(2000, 1)}),
    "a time under a lower tag": manifest(comid(VERSIONED), _4={0: cbor2.CBORTag(0, 1)}),
    "validity that is a list": manifest(comid(VERSIONED), _4=[1, 2]),
    "a signature's own data that are a list": cose.sign1(EXAMPLE, KEY, {8: cbor2.dumps([1])}),
    "a lower tag": cbor2.dumps(cbor2.CBORTag(499, cbor2.loads(EXAMPLE).value)),
    "a higher tag": cbor2.dumps(cbor2.CBORTag(505, cbor2.loads(EXAMPLE).value)),
    "a digest that is a number": manifest(comid({1: {2: [7]}})),
    "digests that are a number": manifest(comid({1: {2: 7}})),
    "a digest of one": manifest(comid({1: {2: [[1]]}})),
    "a float for a time": manifest(comid(VERSIONED), _4={0: cbor2.CBORTag(1, 1.5)}),
    "more": EXAMPLE + b"\0",
    "large": b"\xd9\x01\xf5" + bytes(corim.MAX_SIZE),
    "cut": EXAMPLE[:-1],
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """Whatever is not a manifest is a format error."""
    with pytest.raises(FormatError):
        Corim.parse(REFUSED[name])


@PROPERTY
@given(mutations(EXAMPLE, cose.sign1(EXAMPLE, KEY)))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the reader."""
    try:
        Corim.parse(data)
    except KluisError:
        return
