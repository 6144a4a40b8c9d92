"""Reference values: read from TOML and from manifests, and wanted where a policy says so."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from kluis.appraisal import ANY, ByImage, ByTable, wants
from kluis.appraisal.identity_rules import identity_rules
from kluis.appraisal.reference import References, ReferenceValues
from kluis.appraisal.tees import TABLES
from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    KluisError,
    UnsupportedError,
    UsageError,
)
from kluis.evidence.model import Tee
from kluis.formats import cose
from tests.appraisal.samples import SNP, TDX
from tests.appraisal.test_rules import POLICY, _policy
from tests.formats.test_corim import comid, manifest
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


def _failed(found: ReferenceValues | None, tee: Tee, *keys: str) -> list[str]:
    policy = _policy(identity=_wanting(tee, *keys))
    if found is not None:
        policy = found.apply(policy)
    claims = {Tee.SNP: SNP, Tee.TDX: TDX}[tee]
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


def test_another_value_fails() -> None:
    """A measurement that no release has fails."""
    found = ReferenceValues.loads(TOML.replace(A.hex(), "0f" * 48).encode())
    assert _failed(found, Tee.SNP, "measurements") == ["measurement"]


def test_a_policy_by_image_is_left_alone() -> None:
    """A policy that names its images asks for no reference values."""
    assert isinstance(POLICY.identity, ByImage)
    assert ReferenceValues.loads(TOML.encode()).apply(POLICY) is POLICY


REFUSED = {
    "version": (TOML.replace("version = 1", "version = 2"), UnsupportedError),
    "no values": ("version = 1\nvalues = []", FormatError),
    "no tables": ("version = 1\nvalues = [1]", FormatError),
    "a TEE that is none": (TOML.replace('"snp"', '"sev"'), FormatError),
    "no name": (TOML.replace('name = "release 4.3"', ""), FormatError),
    "an empty list": (TOML.replace(f'["{A.hex()}"]', "[]"), FormatError),
    "a short measurement": (TOML.replace(A.hex(), "00"), FormatError),
    "no register": (TOML.replace("rtmr1", "Rtmr"), FormatError),
    "another key": (TOML + "more = 1", FormatError),
    "another table": (TOML + "[more]", FormatError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """What names nothing, or what nobody knows, is refused; an empty list is not everything."""
    text, error = REFUSED[name]
    with pytest.raises(error):
        ReferenceValues.loads(text.encode())


MEASURED = comid(
    {1: {2: [[7, A]]}}, {0: "rtmr1", 1: {2: [[7, B]]}}, {1: {14: {2: [[7, B]]}}}, kind={2: "TDX"}
)
UNSIGNED = manifest(MEASURED, comid({1: {2: [[7, B]]}}, kind={2: "toaster"}))


def test_corim() -> None:
    """A manifest's measurements and registers are those of its environments' models."""
    found = ReferenceValues.from_corim(UNSIGNED, key=None, now=NOW)
    assert set(found.values) == {Tee.TDX}
    held = found.values[Tee.TDX]
    assert held.measurements == {A}
    assert held.registers == {"rtmr1": frozenset({B}), "rtmr2": frozenset({B})}
    named = ReferenceValues.from_corim(UNSIGNED, key=None, now=NOW, tee=Tee.NITRO)
    assert named.values[Tee.NITRO].registers == {"rtmr1": frozenset({B}), "pcr2": frozenset({B})}


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
    assert ReferenceValues.from_corim(manifest(MEASURED, _4={0: 1}), key=None, now=NOW).values


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
    """A manifest that says nothing of what is known here is refused, and never read as everything."""
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
