"""Reference values: read from TOML and from manifests, and required where a policy uses them."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from kluis.appraisal import ANY, ByImage, ByTable, dumps, loads
from kluis.appraisal.policy import wants
from kluis.appraisal.policy.reference import References, ReferenceValues
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.toml_writer import identity_bytes
from kluis.appraisal.rules.identity import identity_rules
from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    KluisError,
    UnsupportedError,
    UsageError,
)
from kluis.evidence.model import Claims, Tee
from kluis.formats.ietf import cose
from tests.appraisal.rules.test_appraise import POLICY, _policy
from tests.appraisal.samples import SNP, TDX, digest
from tests.formats.ietf.test_corim import comid, manifest
from tests.pace import within
from tests.strategies import PROPERTY, mutations

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP384R1())
A, B = b"\1" * 48, b"\2" * 48
TOML = f"""
version = 1
[[values]]
tee = "snp"
name = "release 4.2"
measurements = ["{A.hex()}"]
[[values]]
tee = "tdx"
name = "release 4.2"
measurements = ["{A.hex()}"]
registers = {{ rtmr1 = ["{B.hex()}"] }}
[[values]]
tee = "tdx"
name = "release 4.3"
registers = {{ rtmr1 = ["{A.hex()}"] }}
"""


def _wanting(tee: Tee, *keys: str) -> ByTable:
    table = {field.key: wants.REFERENCE if field.key in keys else ANY for field in TABLES[tee]}
    return ByTable(tables={tee: table})


def _failed(found: ReferenceValues | None, tee: Tee, *keys: str, claims: Claims | None = None) -> list[str]:
    policy = _policy(identity=_wanting(tee, *keys))
    if found is not None:
        policy = found.apply(policy)
    claims = claims or {Tee.SNP: SNP, Tee.TDX: TDX}[tee]
    return [rule.name for rule in identity_rules(claims, policy.identity) if not rule.ok]


def test_toml() -> None:
    """Values of several releases are each accepted; registers by their names."""
    found = ReferenceValues.loads(TOML.encode())
    assert found.values[Tee.SNP] == References(
        measurements=frozenset({A}), registers={}, names=frozenset({"release 4.2"})
    )
    assert found.values[Tee.TDX].registers == {"rtmr1": frozenset({A, B})}
    assert _failed(found, Tee.SNP, "measurements") == []
    assert _failed(found, Tee.TDX, "measurements", "registers") == []


def test_where_none_is_given_it_is_not_met() -> None:
    """A reference value that is wanted and not there fails its rule; it is never skipped."""
    other = ReferenceValues({Tee.NITRO: References(measurements=frozenset({A}))})
    for found in (None, other):
        assert _failed(found, Tee.TDX, "measurements", "registers") == ["measurement", "registers"]
    bare = ReferenceValues({Tee.TDX: References(measurements=frozenset({A}))})
    assert _failed(bare, Tee.TDX, "measurements", "registers") == ["registers"]
    bare = ReferenceValues({Tee.TDX: References(registers={"rtmr1": frozenset({B})})})
    assert _failed(bare, Tee.TDX, "measurements", "registers") == ["measurement"]


def test_where_none_is_given_it_says_what_to_give() -> None:
    """No other code is to be run, and no policy to be changed: the values are missing."""
    rules = {rule.name: rule for rule in identity_rules(TDX, _wanting(Tee.TDX, "measurements"))}
    assert rules["measurement"].fix == ("pass the vendor's reference values for it: --reference FILE")


def test_another_value_fails() -> None:
    """A measurement that no release has fails."""
    found = ReferenceValues.loads(TOML.replace(A.hex(), "0f" * 48).encode())
    assert _failed(found, Tee.SNP, "measurements") == ["measurement"]


def test_a_policy_by_image_is_left_alone() -> None:
    """A policy that names its images needs no reference values."""
    assert isinstance(POLICY.identity, ByImage)
    assert ReferenceValues.loads(TOML.encode()).apply(POLICY) is POLICY


REFUSED = {
    "version": (TOML.replace("version = 1", "version = 2"), UnsupportedError),
    "version 0": (TOML.replace("version = 1", "version = 0"), UnsupportedError),
    "no values": ("version = 1\nvalues = []", FormatError),
    "no tables": ("version = 1\nvalues = [1]", FormatError),
    "a TEE that is none": (TOML.replace('"snp"', '"sev"'), FormatError),
    "no name": (TOML.replace('name = "release 4.3"', ""), FormatError),
    "an empty list": (TOML.replace(f'["{A.hex()}"]', "[]"), FormatError),
    "a register without values": (TOML.replace(f'["{B.hex()}"]', "[]"), FormatError),
    "a name alone": (TOML.replace(f'measurements = ["{A.hex()}"]', "", 1), FormatError),
    "a short measurement": (TOML.replace(A.hex(), "00"), FormatError),
    "a measurement of 31 bytes": (TOML.replace(A.hex(), "00" * 31), FormatError),
    "a measurement of 65 bytes": (TOML.replace(A.hex(), "00" * 65), FormatError),
    "no register": (TOML.replace("rtmr1", "Rtmr"), FormatError),
    "a register of other digits": (TOML.replace("rtmr1", '"rtmr\u0661"'), FormatError),
    "another key": (TOML + "more = 1", FormatError),
    "another table": (TOML + "[more]", FormatError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """What names nothing, or what nobody knows, is refused; an empty list is not everything."""
    text, error = REFUSED[name]
    with pytest.raises(error):
        ReferenceValues.loads(text.encode())


@pytest.mark.parametrize("size", [32, 64])
def test_measurements_of_every_hash(size: int) -> None:
    """What SHA-256 and SHA-512 give are measurements, too."""
    text = TOML.replace(A.hex(), "0a" * size)
    assert ReferenceValues.loads(text.encode()).values[Tee.SNP].measurements == {b"\x0a" * size}


MEASURED = comid(
    {1: {2: [[7, A]]}}, {0: "rtmr1", 1: {2: [[7, B]]}}, {1: {14: {2: [[7, B]]}}}, kind={2: "TDX"}
)
UNSIGNED = manifest(MEASURED, comid({1: {2: [[7, B]]}}, kind={2: "toaster"}))
UNNAMED = manifest(comid({1: {2: [[7, A]], 14: {2: [[7, B]]}}}, kind={1: "somebody"}))


def test_corim() -> None:
    """A manifest's measurements and registers are those of its environments' models."""
    found = ReferenceValues.from_corim(UNSIGNED, key=None, now=NOW)
    assert set(found.values) == {Tee.TDX}
    held = found.values[Tee.TDX]
    assert held.measurements == {A}
    assert held.registers == {"rtmr1": frozenset({B}), "rtmr2": frozenset({B})}
    named = ReferenceValues.from_corim(UNNAMED, key=None, now=NOW, tee=Tee.NITRO)
    assert named.values[Tee.NITRO].registers == {"pcr2": frozenset({B})}


def test_a_name_given_is_no_other_tees() -> None:
    """Values of an environment whose model is one TEE's are never those of another that is named."""
    both = manifest(MEASURED, comid({1: {2: [[7, B]]}}, kind={2: "sev-snp"}))
    for tee, want in ((Tee.TDX, {A}), (Tee.SNP, {B})):
        found = ReferenceValues.from_corim(both, key=None, now=NOW, tee=tee)
        assert {each: held.measurements for each, held in found.values.items()} == {tee: want}
    with pytest.raises(FormatError, match="holds no value of a TEE"):
        ReferenceValues.from_corim(both, key=None, now=NOW, tee=Tee.NITRO)


CONDITIONS = {
    "a version of its own": ({1: {1: 7, 2: [[7, A]]}}, {0: {2: "TDX"}}, "(1,)"),
    "flags": ({1: {3: {3: False}, 14: {2: [[7, A]]}}}, {0: {2: "TDX"}}, "(3,)"),
    "digests of another algorithm": ({1: {2: [[99, A]], 14: {2: [[7, A]]}}}, {0: {2: "TDX"}}, "(2,)"),
    "a register of another": ({1: {14: {2: [[7, A]], 3: [[99, A]]}}}, {0: {2: "TDX"}}, "('register 3',)"),
    "no register": ({1: {2: [[7, A]], 14: {"x-y": [[7, A]]}}}, {0: {2: "TDX"}}, "('register x-y',)"),
    "an authority": (
        {1: {2: [[7, A]]}, 2: [cbor2.CBORTag(560, b"key")]},
        {0: {2: "TDX"}},
        "('measurement 2',)",
    ),
    "what an extension says": ({1: {2: [[7, A]]}, -1: "x"}, {0: {2: "TDX"}}, "('measurement -1',)"),
    "a number and a register": (
        {1: {1: 7, 14: {2: [[7, A]], 3: [[99, A]]}}},
        {0: {2: "TDX"}},
        "(1, 'register 3')",
    ),
    "a serial number": ({1: {2: [[7, A]], 8: "0001"}}, {0: {2: "TDX"}}, "(8,)"),
    "an instance": ({1: {2: [[7, A]]}}, {0: {2: "TDX"}, 1: b"one"}, "one instance or group"),
    "a group": ({1: {2: [[7, A]]}}, {0: {2: "TDX"}, 2: b"some"}, "one instance or group"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_what_stands_beside_a_digest_is_not_left_out(name: str) -> None:
    """A digest that is good under a condition is not good without it: nothing is believed of the manifest."""
    measured, environment, said = CONDITIONS[name]
    tag = cbor2.CBORTag(506, cbor2.dumps({1: {0: "id"}, 4: {0: [[environment, [measured]]]}}))
    with pytest.raises(UnsupportedError) as caught:
        ReferenceValues.from_corim(manifest(tag), key=None, now=NOW)
    assert said in caught.value.message
    elsewhere = manifest(comid({1: {1: 7, 2: [[7, A]]}}, kind={2: "toaster"}), MEASURED)
    assert set(ReferenceValues.from_corim(elsewhere, key=None, now=NOW).values) == {Tee.TDX}


@pytest.mark.parametrize("model", [*Tee, "sev-snp", "Nitro-Enclaves", "ARM-CCA"])
def test_whose_a_model_is(model: str) -> None:
    """The model of an environment is a TEE's name or its vendor's, and determines its registers' names."""
    others = {"sev-snp": Tee.SNP, "Nitro-Enclaves": Tee.NITRO, "ARM-CCA": Tee.CCA}
    tee = others.get(model) or Tee(model)
    data = manifest(comid({1: {2: [[7, A]]}}, kind={2: model}))
    assert set(ReferenceValues.from_corim(data, key=None, now=NOW).values) == {tee}
    names = dict.fromkeys((Tee.NITRO, Tee.TPM, Tee.AZURE), "pcr2") | {Tee.TDX: "rtmr2", Tee.CCA: "rem2"}
    numbered = manifest(comid({1: {14: {2: [[7, A]]}}}, kind={2: model}))
    if tee in names:
        held = ReferenceValues.from_corim(numbered, key=None, now=NOW).values[tee]
        assert held.registers == {names[tee]: {A}}
        return
    with pytest.raises(FormatError, match="holds no value of a TEE"):
        ReferenceValues.from_corim(numbered, key=None, now=NOW)


def test_how_measurements_and_registers_are_named() -> None:
    """A measurement may be called so; registers begin at 0, and two names of one have the values of both."""
    third = b"\3" * 48
    registers = {0: [[7, A]], "rtmr0": [[7, B]], 3: [[7, third]]}
    data = manifest(comid({0: "measurement", 1: {2: [[7, A]], 14: registers}}, kind={2: "TDX"}))
    held = ReferenceValues.from_corim(data, key=None, now=NOW).values[Tee.TDX]
    assert held.measurements == {A}
    assert held.registers == {"rtmr0": {A, B}, "rtmr3": {third}}


@pytest.mark.parametrize("values", [{2: []}, {2: [[7, A]], 14: {0: []}}, {2: [], 14: {0: [[7, A]]}}])
def test_no_digest_is_not_any_digest(values: object) -> None:
    """An empty list of allowed values is refused, and not read as no condition."""
    with pytest.raises(FormatError, match=r"CoMID\.digests: want at least 1, got 0"):
        ReferenceValues.from_corim(manifest(comid({1: values}, kind={2: "TDX"})), key=None, now=NOW)


def test_a_profile_is_not_passed_over() -> None:
    """A manifest with an unknown profile is rejected whole, as its specification requires."""
    for profile, shown in (("tag:vendor,2026:x", "tag:vendor"), (cbor2.CBORTag(111, b"\x2a"), "2a")):
        with pytest.raises(UnsupportedError, match=f"want no profile, got '{shown}"):
            ReferenceValues.from_corim(manifest(MEASURED, _3=profile), key=None, now=NOW)


def test_a_signature_that_has_run_out() -> None:
    """A signature's own validity applies in addition to the manifest's."""
    for when, code in (({0: 0, 1: 1}, "corim_expired"), ({0: 1 << 33, 1: 1 << 34}, "corim_not_yet_valid")):
        meta = cbor2.dumps({0: {0: "somebody"}, 1: when})
        data = cose.sign1(manifest(MEASURED, _4={1: 1 << 33}), KEY, {8: meta})
        with pytest.raises(FreshnessError) as caught:
            ReferenceValues.from_corim(data, key=KEY.public_key(), now=NOW)
        assert caught.value.code == code


RELEASES = f"""
version = 1
[[values]]
tee = "tdx"
name = "old"
measurements = ["{A.hex()}"]
registers = {{ rtmr0 = ["{A.hex()}"], rtmr1 = ["{A.hex()}"] }}
[[values]]
tee = "tdx"
name = "new"
measurements = ["{B.hex()}"]
registers = {{ rtmr0 = ["{B.hex()}"], rtmr1 = ["{B.hex()}"] }}
"""


def _running(measurement: int, *registers: int) -> Claims:
    held = {f"rtmr{i}": digest(each) for i, each in enumerate(registers)}
    return dataclasses.replace(TDX, measurement=digest(measurement), registers=held)


def _manifests(text: str) -> ReferenceValues:
    """The same values as manifests, a CoMID for each release."""
    tags = []
    for each in tomllib.loads(text)["values"]:
        values = {1: {2: [[7, bytes.fromhex(d)] for d in each.get("measurements", [])]}}
        named = [{0: n, 1: {2: [[7, bytes.fromhex(d)] for d in v]}} for n, v in each["registers"].items()]
        tags.append(comid(*[values] * ("measurements" in each), *named, kind={2: "TDX"}))
    return ReferenceValues.from_corim(manifest(*tags), key=None, now=NOW)


@pytest.mark.parametrize("read", [lambda text: ReferenceValues.loads(text.encode()), _manifests])
def test_parts_of_two_releases_are_no_release(read: Callable[[str], ReferenceValues]) -> None:
    """An old firmware under a new kernel is refused, though each is one that somebody released."""
    found = read(RELEASES)
    both = ("measurements", "registers")
    for whole in (_running(1, 1, 1), _running(2, 2, 2)):
        assert _failed(found, Tee.TDX, *both, claims=whole) == []
    for mixed in (_running(1, 2, 2), _running(2, 1, 1), _running(2, 2, 1)):
        assert _failed(found, Tee.TDX, *both, claims=mixed) == ["release"]
    assert _failed(found, Tee.TDX, "registers", claims=_running(1, 2, 2)) == []
    assert _failed(found, Tee.TDX, "registers", claims=_running(1, 2, 1)) == ["release"]
    assert _failed(found, Tee.TDX, *both, claims=_running(3, 2, 2)) == ["measurement", "release"]


def test_documents_that_are_joined_one_by_one() -> None:
    """What is joined keeps what each release is, however many documents it came from."""
    one, other = ReferenceValues.loads(RELEASES.encode()), ReferenceValues.loads(TOML.encode())
    for joined in (one | other, other | one, one | other | one):
        assert set(joined.values) == {Tee.SNP, Tee.TDX}
        both = ("measurements", "registers")
        assert _failed(joined, Tee.TDX, *both, claims=_running(2, 2, 2)) == []
        assert _failed(joined, Tee.TDX, *both, claims=_running(1, 2, 2)) == ["release"]


def test_values_that_are_put_in_twice() -> None:
    """What is good together stays so where the same or other values are put in after it."""
    found = ReferenceValues.loads(RELEASES.encode())
    policy = found.apply(_policy(identity=_wanting(Tee.TDX, "measurements", "registers")))
    for more in (found, ReferenceValues.loads(TOML.encode())):
        twice = more.apply(policy)
        assert twice == policy
        rules = identity_rules(_running(1, 2, 2), twice.identity)
        assert [rule.name for rule in rules if not rule.ok] == ["release"]


def test_values_that_are_put_in_are_saved() -> None:
    """A policy that was given reference values is the same once it is saved and read."""
    found = ReferenceValues.loads(RELEASES.encode())
    policy = found.apply(_policy(identity=_wanting(Tee.TDX, "measurements", "registers")))
    saved = loads(dumps(policy).encode())
    assert (saved, identity_bytes(saved)) == (policy, identity_bytes(policy))
    rules = identity_rules(_running(1, 2, 2), saved.identity)
    assert [rule.name for rule in rules if not rule.ok] == ["release"]


def test_sources_that_speak_of_different_things() -> None:
    """Firmware by one source and kernels by another are good together: neither speaks of the other's."""
    parts = RELEASES.replace(f'registers = {{ rtmr0 = ["{A.hex()}"], rtmr1 = ["{A.hex()}"] }}', "").replace(
        f'measurements = ["{B.hex()}"]', ""
    )
    found = ReferenceValues.loads(parts.encode())
    both = ("measurements", "registers")
    assert _failed(found, Tee.TDX, *both, claims=_running(1, 2, 2)) == []
    assert _failed(found, Tee.TDX, *both, claims=_running(1, 2, 1)) == ["registers", "release"]


@pytest.mark.parametrize("count", [150])
def test_a_large_manifest_is_read_at_once(count: int) -> None:
    """Thousands of registers in a manifest of nearly 1 MiB cost what their number is, not its square."""
    names = ("".join(each) for each in itertools.product("abcdefgh", repeat=4))
    tags = [
        comid(*({0: f"{next(names)}{i}", 1: {2: [[7, A]]}} for i in range(25)), kind={2: "TDX"})
        for _ in range(count)
    ]
    with within(1.5):
        found = ReferenceValues.from_corim(manifest(*tags), key=None, now=NOW)
    assert len(found.values[Tee.TDX].registers) == 25 * count


def test_signed_corim() -> None:
    """A signed manifest is believed under the key that signed it, and under no other."""
    data = cose.sign1(UNSIGNED, KEY)
    assert ReferenceValues.from_corim(data, key=KEY.public_key(), now=NOW) == ReferenceValues.from_corim(
        UNSIGNED, key=None, now=NOW
    )
    with pytest.raises(AuthenticityError):
        ReferenceValues.from_corim(data, key=ec.generate_private_key(ec.SECP384R1()).public_key(), now=NOW)
    with pytest.raises(UsageError, match="is signed; want its key"):
        ReferenceValues.from_corim(data, key=None, now=NOW)
    with pytest.raises(UsageError, match="is unsigned; want no key"):
        ReferenceValues.from_corim(UNSIGNED, key=KEY.public_key(), now=NOW)


def test_corim_out_of_its_time() -> None:
    """A manifest that is not valid yet, or any more, is stale."""
    later = manifest(MEASURED, _4={0: int(NOW.timestamp()) + 1})
    with pytest.raises(FreshnessError) as caught:
        ReferenceValues.from_corim(later, key=None, now=NOW)
    assert caught.value.code == "corim_not_yet_valid"
    before = manifest(MEASURED, _4={1: int(NOW.timestamp()) - 1})
    with pytest.raises(FreshnessError) as caught:
        ReferenceValues.from_corim(before, key=None, now=NOW)
    assert caught.value.code == "corim_expired"
    at = int(NOW.timestamp())
    for window in ({0: 1}, {0: 1, 1: at + 1}, {0: at, 1: at}):
        assert ReferenceValues.from_corim(manifest(MEASURED, _4=window), key=None, now=NOW).values


@pytest.mark.parametrize(
    "data",
    [
        manifest(comid({1: {2: [[7, B]]}}, kind={2: "toaster"})),
        manifest(comid({0: "a name", 1: {2: [[7, B]]}}, kind={2: "TDX"})),
        manifest(comid({0: 5, 1: {2: [[7, B]]}}, kind={2: "SNP"})),
        manifest(comid({1: {14: {1000: [[7, B]]}}}, kind={2: "TDX"})),
        manifest(comid({1: {0: {0: "1"}}}, kind={2: "TDX"})),
    ],
)
def test_a_manifest_of_nothing_known(data: bytes) -> None:
    """A manifest without any known environment is refused, and never read as matching everything."""
    with pytest.raises(FormatError) as caught:
        ReferenceValues.from_corim(data, key=None, now=NOW)
    assert caught.value.hint == "name the TEE: --reference TEE=FILE"


@PROPERTY
@given(st.permutations([A, B, b"\3" * 48]))
def test_order_does_not_matter(values: list[bytes]) -> None:
    """The same values from several documents, in any order, are the same reference values."""
    parts = [ReferenceValues({Tee.SNP: References(measurements=frozenset({each}))}) for each in values]
    joined = parts[0] | parts[1] | parts[2]
    assert joined.values[Tee.SNP].measurements == {A, B, b"\3" * 48}


@PROPERTY
@given(mutations(TOML.encode()))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the reader."""
    try:
        ReferenceValues.loads(data)
    except KluisError:
        return
