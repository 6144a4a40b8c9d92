"""Policies as TOML: what a policy does not say, it does not load with."""

from __future__ import annotations

import difflib
import itertools
import tomllib
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.appraisal import (
    ANY,
    ByImage,
    BySigner,
    ByTable,
    Policy,
    ReportDataBinding,
    RuntimeBinding,
    Session,
    dumps,
    loads,
    strict,
)
from kluis.appraisal.policy.structured import Masked
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.toml_reader import HINT
from kluis.appraisal.policy.toml_tables import MISSPELT
from kluis.appraisal.policy.wants import Allowed, OneOf
from kluis.errors import FormatError, KluisError, UnsupportedError, UsageError
from kluis.evidence import ProtectionLevel, TcbStatus, Tee
from kluis.formats.kluis.runtime_data import Purpose
from tests.appraisal.wanted import identities
from tests.strategies import PROPERTY, mutations

GOOD = """
version = 1
[accept]
protection = ["process", "hardware-sgx"]
debug = false
emulated_roots = ["root.pem"]
[freshness]
nonce = true
max_collateral_age_days = 30
max_evidence_age_seconds = 300
[identity]
image_ids = ["{image}"]
[tcb]
statuses = ["UpToDate", "SWHardeningNeeded"]
advisories = ["INTEL-SA-00615"]
min_evaluation = 17
[binding]
purpose = "release-key"
[launch]
missing = ["landlock"]
counters = ["unwitnessed"]
insecure = []
""".replace("{image}", "ab" * 32)


def test_loads() -> None:
    """Every key is in the policy."""
    assert loads(GOOD.encode()) == Policy(
        protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.HARDWARE_SGX}),
        debug=False,
        denylists=False,
        identity=ByImage(image_ids=frozenset({b"\xab" * 32})),
        tcb_statuses=frozenset({TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED}),
        advisories=frozenset({"INTEL-SA-00615"}),
        min_evaluation=17,
        min_tcb_date=ANY,
        max_collateral_age=timedelta(days=30),
        max_evidence_age=timedelta(minutes=5),
        binding=RuntimeBinding(
            purpose=Purpose.RELEASE_KEY,
            nonce=True,
            missing=frozenset({"landlock"}),
            counters=frozenset({"unwitnessed"}),
            insecure=frozenset(),
        ),
        emulated_roots=("root.pem",),
    )


KEYS = [line.split(" = ")[0] for line in GOOD.splitlines() if " = " in line]
NAMES = [line.strip("[]") for line in GOOD.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_must_stand_there(key: str) -> None:
    """A policy that leaves one thing unsaid does not load, and says which."""
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith(f"{key} = "))
    with pytest.raises(FormatError) as caught:
        loads(text.encode())
    assert caught.value.code == "policy_incomplete"
    assert key in str(caught.value)
    assert caught.value.hint == "kluis policy init writes a complete policy"


@pytest.mark.parametrize("table", NAMES)
def test_every_table_must_stand_there(table: str) -> None:
    """The same for whole tables."""
    value = tomllib.loads(GOOD)
    lines = GOOD.splitlines()
    start = lines.index(f"[{table}]")
    kept = lines[:start] + lines[start + 1 + len(value[table]) :]
    with pytest.raises(FormatError) as caught:
        loads("\n".join(kept).encode())
    assert (str(caught.value), caught.value.code) == (f"policy.{table}: is not stated", "policy_incomplete")


def _swap(old: str, new: str) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new).encode()


LEVELS = ", ".join(ProtectionLevel)
PURPOSES = ", ".join(Purpose)
REFUSED: dict[str, tuple[bytes, type[KluisError], str]] = {
    "version": (_swap("version = 1", "version = 3"), UnsupportedError, "policy.version: want 1 or 2, got 3"),
    "no TOML": (b"[", FormatError, None),  # type: ignore[dict-item]
    "no UTF-8": (b"\xff", FormatError, None),  # type: ignore[dict-item]
    "large": (b"#" * 262145, FormatError, "policy: is 262145 bytes, must be at most 262144"),
    "level": (
        _swap('"process"', '"safe"'),
        FormatError,
        f"policy.accept.protection: want some of {LEVELS}, got 'safe'",
    ),
    "no level": (
        _swap('["process", "hardware-sgx"]', "[]"),
        UsageError,
        "policy.accept.protection: want at least 1, got 0",
    ),
    "debug that is text": (
        _swap("debug = false", 'debug = "false"'),
        FormatError,
        "policy.accept.debug: want true or false, got text",
    ),
    "debug without its level": (
        _swap("debug = false", "debug = true"),
        UsageError,
        'policy.accept: want debug = true with protection "none", and neither without the other',
    ),
    "level none without debug": (
        _swap('"process"', '"none"'),
        UsageError,
        'policy.accept: want debug = true with protection "none", and neither without the other',
    ),
    "nonce that is a number": (
        _swap("nonce = true", "nonce = 1"),
        FormatError,
        "policy.freshness.nonce: want true or false, got an integer",
    ),
    "age below zero": (
        _swap("days = 30", "days = -1"),
        FormatError,
        "policy.freshness.max_collateral_age_days: want 0..36500, got -1",
    ),
    "age that is a date": (
        _swap("days = 30", "days = 2026-01-01"),
        FormatError,
        "policy.freshness.max_collateral_age_days: want an integer, got a date without quotes",
    ),
    "no image": (
        _swap(f'["{"ab" * 32}"]', "[]"),
        UsageError,
        "policy.identity.image_ids: want at least 1, got 0",
    ),
    "short image": (_swap("ab" * 32, "ab"), UsageError, "policy.identity.image_ids: want 32 bytes, got 1"),
    "image that is no hex": (
        _swap("ab" * 32, "xy"),
        FormatError,
        "policy.identity.image_ids: want hex, got 'xy'",
    ),
    "image and signer": (
        _swap("[tcb]", "signers = []\n[tcb]"),
        FormatError,
        "policy.identity.signers: is not a key of a policy",
    ),
    "no signer": (
        _swap(f'image_ids = ["{"ab" * 32}"]', "signers = []\nproduct_id = 1\nmin_svn = 1"),
        UsageError,
        "policy.identity.signers: want at least 1, got 0",
    ),
    "status": (
        _swap('"UpToDate"', '"Fine"'),
        FormatError,
        f"policy.tcb.statuses: want some of {', '.join(TcbStatus)}, got 'Fine'",
    ),
    "no status": (
        _swap('["UpToDate", "SWHardeningNeeded"]', "[]"),
        UsageError,
        "policy.tcb.statuses: want at least 1, got 0",
    ),
    "advisories": (
        _swap('["INTEL-SA-00615"]', "[1]"),
        FormatError,
        "policy.tcb.advisories: want a list of text",
    ),
    "purpose": (
        _swap('"release-key"', '"any"'),
        FormatError,
        f"policy.binding.purpose: want one of {PURPOSES}, got 'any'",
    ),
    "any advisory": (
        _swap('["INTEL-SA-00615"]', '"any"'),
        FormatError,
        "policy.tcb.advisories: want a list, got text",
    ),
    "any evaluation": (
        _swap("min_evaluation = 17", 'min_evaluation = "any"'),
        FormatError,
        "policy.tcb.min_evaluation: want an integer, got text",
    ),
    "any age": (
        _swap("days = 30", 'days = "any"'),
        FormatError,
        "policy.freshness.max_collateral_age_days: want an integer, got text",
    ),
    "another key of what is accepted": (
        _swap("[accept]", "[accept]\ndenylists = true"),
        FormatError,
        "policy.accept.denylists: is not a key of a policy",
    ),
    "another key of freshness": (
        _swap("[freshness]", "[freshness]\nage = 1"),
        FormatError,
        "policy.freshness.age: is not a key of a policy",
    ),
    "another key of the binding": (
        _swap("[binding]", '[binding]\nnonce = "00"'),
        FormatError,
        "policy.binding.nonce: is not a key of a policy",
    ),
    "another key of the launch": (
        _swap("[launch]", "[launch]\ngrants = []"),
        FormatError,
        "policy.launch.grants: is not a key of a policy",
    ),
    "a product above all": (
        _swap(f'image_ids = ["{"ab" * 32}"]', f'signers = ["{"ab" * 32}"]\nproduct_id = 65536\nmin_svn = 1'),
        FormatError,
        "policy.identity.product_id: want 0..65535, got 65536",
    ),
    "a version above all": (
        _swap(f'image_ids = ["{"ab" * 32}"]', f'signers = ["{"ab" * 32}"]\nproduct_id = 1\nmin_svn = 65536'),
        FormatError,
        "policy.identity.min_svn: want 0..65535, got 65536",
    ),
    "an age above all": (
        _swap("days = 30", "days = 36501"),
        FormatError,
        "policy.freshness.max_collateral_age_days: want 0..36500, got 36501",
    ),
    "seconds that no time has": (
        _swap("seconds = 300", f"seconds = {1 << 62}"),
        FormatError,
        f"policy.freshness.max_evidence_age_seconds: want 0..3153600000, got {1 << 62}",
    ),
    "two purposes": (
        _swap('"release-key"', '["cli", "app"]'),
        FormatError,
        "policy.binding.purpose: want text, got a list",
    ),
    "no counter": (
        _swap('["unwitnessed"]', "[]"),
        UsageError,
        "policy.launch.counters: want at least 1, got 0",
    ),
    "another key": (
        _swap("[tcb]", "[tcb]\nall = true"),
        FormatError,
        "policy.tcb.all: is not a key of a policy",
    ),
    "another table": (
        (GOOD + "[other]\n").encode(),
        FormatError,
        "policy.other: is not a key of a policy",
    ),
    "a table that is none": (
        _swap("version = 1", "version = 1\nlaunch = 1").replace(b"[launch]", b"[other]"),
        FormatError,
        "policy.launch: want a table, got an integer",
    ),
    "a nonce of a foreign enclave": (
        _swap('purpose = "release-key"', f'report_data = "{"00" * 64}"'),
        UsageError,
        "policy.freshness.nonce: a foreign enclave's report data is its freshness; want false",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    """A policy that accepts nothing, contradicts itself or says what nobody knows does not load."""
    data, error, message = REFUSED[name]
    with pytest.raises(KluisError) as caught:
        loads(data)
    assert type(caught.value) is error
    assert message is None or str(caught.value) == message


def _foreign(report_data: str) -> bytes:
    text = GOOD[: GOOD.index("[launch]")].replace("nonce = true", "nonce = false")
    return text.replace('purpose = "release-key"', f'report_data = "{report_data}"').encode()


def test_foreign_enclave() -> None:
    """A policy for another maker's enclave states its report data, and nothing of a launch."""
    assert loads(_foreign("ab" * 64)).binding == ReportDataBinding(report_data=b"\xab" * 64)
    for size in (1, 63, 65):
        with pytest.raises(UsageError) as caught:
            loads(_foreign("ab" * size))
        assert str(caught.value) == f"policy.binding.report_data: want 64 bytes, got {size}"
    for word in ("any", *Session):
        with pytest.raises(FormatError) as no_hex:
            loads(_foreign(word))
        assert str(no_hex.value) == f"policy.binding.report_data: want hex, got '{word}'"
    with pytest.raises(FormatError) as wrong:
        loads(_foreign("ab" * 64) + b"[launch]\nmissing = []\n")
    assert str(wrong.value) == "policy.launch: is not a key of a policy"


WORDS = st.frozensets(st.text("ab_", min_size=1))
BASE: dict[str, st.SearchStrategy[Any]] = {
    "protection": st.sets(st.sampled_from(sorted(set(ProtectionLevel) - {"none"})), min_size=1).map(
        frozenset
    ),
    "debug": st.just(False),
    "tcb_statuses": st.frozensets(st.sampled_from(TcbStatus), min_size=1),
    "max_evidence_age": st.integers(0, 10**6).map(lambda seconds: timedelta(seconds=seconds)),
    "emulated_roots": st.sets(st.text("a/é \"\\'.", min_size=1)).map(lambda names: tuple(sorted(names))),
}
ADVISORIES = st.frozensets(st.text(st.characters(codec="utf-8")))
EVALUATION = st.integers(0, 100)
AGE = st.integers(0, 1000).map(lambda days: timedelta(days=days))
RUNTIME = st.builds(
    RuntimeBinding,
    purpose=st.sampled_from(Purpose),
    nonce=st.booleans(),
    missing=WORDS,
    counters=st.frozensets(st.text("ab_", min_size=1), min_size=1),
    insecure=WORDS,
)
FIRST = st.builds(
    Policy,
    **BASE,
    denylists=st.just(False),
    identity=st.builds(ByImage, image_ids=st.frozensets(st.binary(min_size=32, max_size=32), min_size=1))
    | st.builds(
        BySigner,
        signers=st.frozensets(st.binary(min_size=32, max_size=32), min_size=1),
        product_id=st.integers(0, 0xFFFF),
        min_svn=st.integers(0, 0xFFFF),
    ),
    advisories=ADVISORIES,
    min_evaluation=EVALUATION,
    min_tcb_date=st.just(ANY),
    max_collateral_age=AGE,
    binding=RUNTIME | st.builds(ReportDataBinding, report_data=st.binary(min_size=64, max_size=64)),
)
SECOND = st.builds(
    Policy,
    **BASE,
    denylists=st.booleans(),
    identity=identities(),
    advisories=ADVISORIES | st.just(ANY),
    min_evaluation=EVALUATION | st.just(ANY),
    min_tcb_date=st.dates() | st.just(ANY),
    max_collateral_age=AGE | st.just(ANY),
    binding=RUNTIME
    | st.builds(
        ReportDataBinding,
        report_data=st.binary(max_size=80) | st.sampled_from(Session) | st.just(ANY),
        nonce=st.booleans(),
    ),
)


@PROPERTY
@given(FIRST | SECOND)
def test_round_trip(policy: Policy) -> None:
    """A policy that is written loads as itself."""
    assert loads(dumps(policy).encode()) == policy


WHOLE = """
version = 2
[accept]
protection = ["hardware-sgx"]
debug = false
denylists = true
emulated_roots = []
[freshness]
nonce = false
max_collateral_age_days = 30
max_evidence_age_seconds = 300
[tcb]
statuses = ["UpToDate"]
advisories = "any"
min_evaluation = 17
min_tcb_date = "2025-05-14"
[binding]
report_data = "given"
[sgx]
measurements = ["{image}"]
signers = "any"
product_id = 7
min_svn = 3
config_ids = "any"
family_ids = "any"
attributes = { mask = "36", value = "4" }
products = "any"
min_pce_svn = "any"
smt = false
dynamic_platform = "any"
cached_keys = false
platforms = "any"
""".replace("{image}", "ab" * 32)


def test_loads_version_2() -> None:
    """Every key is in the policy, and any is a want like the others."""
    policy = loads(WHOLE.encode())
    assert policy.tees == {Tee.SGX}
    assert (policy.denylists, policy.min_tcb_date) == (True, date(2025, 5, 14))
    assert (policy.advisories, policy.min_evaluation) == (ANY, 17)
    assert policy.binding == ReportDataBinding(report_data=Session.GIVEN, nonce=False)
    assert isinstance(policy.identity, ByTable)
    wants = policy.identity.tables[Tee.SGX]
    assert wants["measurements"] == OneOf(frozenset({b"\xab" * 32}))
    assert wants["attributes"] == Masked(0x36, 4)
    assert (wants["signers"], wants["smt"]) == (ANY, Allowed(False))


def test_numbers_from_the_least_to_the_most() -> None:
    """Each number may be 0, and may be its most."""
    identity = f'signers = ["{"ab" * 32}"]\nproduct_id = 0\nmin_svn = 0'
    least = _swap(f'image_ids = ["{"ab" * 32}"]', identity).decode().replace("days = 30", "days = 0")
    policy = loads(least.replace("seconds = 300", "seconds = 0").replace("= 17", "= 0").encode())
    assert policy.identity == BySigner(signers=frozenset({b"\xab" * 32}), product_id=0, min_svn=0)
    assert (policy.max_collateral_age, policy.max_evidence_age) == (timedelta(0), timedelta(0))
    assert policy.min_evaluation == 0
    most = least.replace("product_id = 0\nmin_svn = 0", "product_id = 65535\nmin_svn = 65535")
    policy = loads(
        most.replace("days = 0", "days = 36500").replace("seconds = 300", "seconds = 3153600000").encode()
    )
    assert policy.identity == BySigner(signers=frozenset({b"\xab" * 32}), product_id=65535, min_svn=65535)
    assert (policy.max_collateral_age, policy.max_evidence_age) == (timedelta(36500), timedelta(36500))


def test_any_of_what_is_no_table_of_a_tee() -> None:
    """Version 2 may say any of ages, advisories, the evaluation, the day and the report data."""
    text = WHOLE.replace("days = 30", 'days = "any"').replace("= 17", '= "any"')
    text = text.replace('"2025-05-14"', '"any"').replace('"given"', '"any"')
    policy = loads(text.encode())
    assert (policy.max_collateral_age, policy.min_evaluation, policy.min_tcb_date) == (ANY, ANY, ANY)
    assert (policy.advisories, policy.binding) == (ANY, ReportDataBinding(report_data=ANY))


@pytest.mark.parametrize("text", ["any", "given", "nonce", "ab" * 20])
def test_a_nonce_beside_report_data(text: str) -> None:
    """In version 2 report data of every kind leaves the nonce wanted, where it is."""
    want = ANY if text == "any" else Session(text) if text in set(Session) else b"\xab" * 20
    for nonce in (True, False):
        policy = loads(
            WHOLE.replace('"given"', f'"{text}"')
            .replace("nonce = false", f"nonce = {str(nonce).lower()}")
            .encode()
        )
        assert policy.binding == ReportDataBinding(report_data=want, nonce=nonce)


@pytest.mark.parametrize("key", [line.split(" = ")[0] for line in WHOLE.splitlines() if " = " in line])
def test_every_key_of_version_2_must_stand_there(key: str) -> None:
    """What is not stated is not any: a policy that leaves one thing unsaid does not load."""
    text = "\n".join(line for line in WHOLE.splitlines() if not line.startswith(f"{key} = "))
    with pytest.raises(FormatError) as caught:
        loads(text.encode())
    assert caught.value.code == "policy_incomplete"
    assert key in str(caught.value) or key == "report_data"


def test_a_key_that_is_misspelt() -> None:
    """Where a key of nearly that name stands there, it is what is told, and not to draft all anew."""
    with pytest.raises(FormatError) as caught:
        loads(_whole("measurements = ", "measurement = "))
    assert str(caught.value).endswith(".measurements: is not stated")
    assert caught.value.hint == "it has measurement: did you mean measurements"


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("debug = false", "debgu = false", "it has debgu: did you mean debug"),
        ("debug = false", 'debug = "no"', HINT),
        (
            "max_collateral_age_days = 30",
            "max_collateral_age_hours = 30",
            "did you mean max_collateral_age_days",
        ),
        ("max_collateral_age_days = 30", "max_collateral_age_days = 99999", HINT),
        ('"UpToDate"', '"uptodate"', HINT),
        ('measurements = ["', 'measurements = ["0x', "only hex digits: no 0x, no colons"),
        ('measurements = ["', 'measurements = ["sha256:', "only hex digits: no 0x, no colons"),
        ('report_data = "given"', 'report_data = "none"', "only hex digits"),
    ],
)
def test_what_mends_a_policy(old: str, new: str, hint: str) -> None:
    """Whoever edited it by hand hears what to write there, and never to export it again."""
    assert old in WHOLE
    with pytest.raises(FormatError) as caught:
        loads(_whole(old, new))
    assert hint in str(caught.value.hint)


def test_report_data_that_is_no_word() -> None:
    """What may stand there is told whole, and what does."""
    with pytest.raises(FormatError) as caught:
        loads(_whole('report_data = "given"', 'report_data = "none"'))
    assert str(caught.value) == (
        'policy.binding.report_data: want hex, "given", "nonce" or "any", got \'none\''
    )


def test_a_table_in_capitals() -> None:
    """A policy whose only table of a TEE is called otherwise hears which there are, and which it has."""
    with pytest.raises(FormatError) as caught:
        loads(_whole("[sgx]", "[SGX]"))
    assert str(caught.value).endswith("tpm, azure, nvidia, cca, got 'SGX'")


def test_no_two_keys_are_taken_for_each_other() -> None:
    """A key that is left out is never told to be another one of the same table."""
    for table in TABLES.values():
        for one, other in itertools.permutations([field.key for field in table], 2):
            assert not difflib.get_close_matches(one, [other], 1, MISSPELT)


def _whole(old: str, new: str) -> bytes:
    assert old in WHOLE
    return WHOLE.replace(old, new).encode()


IMAGES = f'["{"ab" * 32}"]'
REFUSED_WHOLE: dict[str, tuple[bytes, str]] = {
    "an empty list": (_whole(IMAGES, "[]"), "policy.sgx.measurements: want at least 1, got 0"),
    "another size": (_whole("ab" * 32, "ab"), "policy.sgx.measurements: want 32 bytes, got 1"),
    "another word than any": (
        _whole(IMAGES, '"all"'),
        'policy.sgx.measurements: want a list or "any" or "reference", got \'all\'',
    ),
    "a day that is none": (
        _whole("2025-05-14", "2025-5-14"),
        'policy.tcb.min_tcb_date: want a day as "2026-01-31", or "any", got \'2025-5-14\'',
    ),
    "a day as other clocks have it": (
        _whole("2025-05-14", "20250514"),
        'policy.tcb.min_tcb_date: want a day as "2026-01-31", or "any", got \'20250514\'',
    ),
    "a day of a week": (
        _whole("2025-05-14", "2025-W05-6"),
        'policy.tcb.min_tcb_date: want a day as "2026-01-31", or "any", got \'2025-W05-6\'',
    ),
    "a key that the TEE's table does not have": (
        _whole("smt = false", "smt = false\nrtmr0 = []"),
        "policy.sgx.rtmr0: is not a key of a policy",
    ),
    "an empty mask": (
        _whole('mask = "36"', 'mask = "0"'),
        "policy.sgx.attributes: want a mask with bits, and a value within it, got 0x0, 0x4",
    ),
    "no table of a TEE": (
        WHOLE[: WHOLE.index("[sgx]")].encode(),
        f"policy: has no table of a TEE; want at least one of {', '.join(TABLES)}",
    ),
    "an identity of version 1": (
        _whole("[sgx]", f"[identity]\nimage_ids = {IMAGES}\n[sgx]"),
        "policy.identity: is not a key of a policy",
    ),
    "long report data": (
        _whole('"given"', f'"{"00" * 1025}"'),
        "policy.binding.report_data: want at most 1024 bytes, got 1025",
    ),
}


@pytest.mark.parametrize("name", REFUSED_WHOLE)
def test_refuses_version_2(name: str) -> None:
    """An empty expected set is refused, never read as everything; so is what contradicts itself."""
    data, message = REFUSED_WHOLE[name]
    with pytest.raises(KluisError) as caught:
        loads(data)
    assert str(caught.value) == message


def test_a_key_twice_is_refused() -> None:
    """A key that appears twice could be read in two ways."""
    with pytest.raises(FormatError) as caught:
        loads(_whole("smt = false", "smt = false\nsmt = true"))
    assert caught.value.code == "bad_encoding"


@PROPERTY
@given(st.permutations(WHOLE.split("\n[")[1:]), st.randoms(use_true_random=False))
def test_order_of_version_2_does_not_matter(tables: list[str], random: Any) -> None:
    """The same tables, and the same keys within, in another order are the same policy."""
    parts = []
    for table in tables:
        name, *keys = table.strip().split("\n")
        random.shuffle(keys)
        parts.append("\n".join([f"[{name}", *keys]))
    assert loads(("version = 2\n" + "\n".join(parts)).encode()) == loads(WHOLE.encode())


def test_a_table_says_everything() -> None:
    """A table made in Python must have every field of its TEE, and no other."""
    wants = {field.key: ANY for field in TABLES[Tee.SGX]}
    with pytest.raises(UsageError) as caught:
        ByTable(tables={Tee.SGX: {key: want for key, want in wants.items() if key != "smt"}})
    assert str(caught.value) == "policy.sgx.smt: is not stated"
    with pytest.raises(UsageError) as caught:
        ByTable(tables={Tee.SGX: {**wants, "other": ANY}})
    assert str(caught.value) == "policy.sgx.other: is not a key of a policy"
    with pytest.raises(UsageError) as caught:
        ByTable(tables={})
    assert str(caught.value) == "policy: want at least 1, got 0"


@PROPERTY
@given(st.permutations(GOOD.split("\n[")[1:]))
def test_order_does_not_matter(tables: list[str]) -> None:
    """The same tables in another order are the same policy."""
    text = "version = 1\n" + "\n".join(f"[{table}" for table in tables)
    assert loads(text.encode()) == loads(GOOD.encode())


@PROPERTY
@given(mutations(GOOD.encode()))
def test_only_our_errors(data: bytes) -> None:
    """No foreign exception leaves the reader."""
    try:
        loads(data)
    except KluisError:
        return


def test_strict() -> None:
    """The strict policy accepts no debug, no lack, no insecure grant and no stale platform."""
    made: Any = strict(
        ByImage(image_ids=frozenset({bytes(32)})),
        protection=frozenset({ProtectionLevel.HARDWARE_SGX}),
        purpose=Purpose.CLI,
        counters=frozenset({"tpm"}),
        missing=frozenset(),
    )
    assert (made.debug, made.tcb_statuses, made.advisories) == (False, {TcbStatus.UP_TO_DATE}, frozenset())
    assert (made.binding.nonce, made.binding.insecure, made.emulated_roots) == (True, frozenset(), ())


RELEASES = (
    WHOLE
    + f"""
[[releases.sgx]]
name = "4.2"
measurements = ["{"ab" * 32}"]
[[releases.sgx]]
name = "4.3"
measurements = ["{"cd" * 32}", "{"ef" * 32}"]
"""
)


def test_releases() -> None:
    """What releases have stands beside the tables, and is written as it was read."""
    policy = loads(RELEASES.encode())
    assert isinstance(policy.identity, ByTable)
    assert [each.name for each in policy.identity.releases[Tee.SGX]] == ["4.2", "4.3"]
    assert policy.identity.releases[Tee.SGX][1].wants == {
        "measurements": OneOf(frozenset({b"\xcd" * 32, b"\xef" * 32}))
    }
    text = dumps(policy)
    assert text.endswith(
        f"""
[[releases.sgx]]  # values that belong together
name = "4.2"
measurements = ["{"ab" * 32}"]

[[releases.sgx]]
name = "4.3"
measurements = ["{"cd" * 32}", "{"ef" * 32}"]
"""
    )
    assert loads(text.encode()) == policy


def _released(old: str, new: str) -> bytes:
    assert old in RELEASES
    return RELEASES.replace(old, new).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_released("[[releases.sgx]]", "[[releases.toaster]]"), "policy.releases.toaster: want one of "),
        (
            f'{WHOLE}[[releases.tdx]]\nname = "1"\nmeasurements = ["{"ab" * 48}"]'.encode(),
            "policy.releases.tdx: want also a table of that TEE",
        ),
        (_released('name = "4.3"\n', ""), "policy.releases.sgx[1].name: is not stated"),
        (_released('name = "4.3"', "name = 4"), "policy.releases.sgx[1].name: want text, got an integer"),
        (
            _released(f'["{"cd" * 32}", "{"ef" * 32}"]', '"any"'),
            'policy.releases.sgx[1].measurements: want values of the release, got "any"',
        ),
        (
            _released(f'["{"cd" * 32}", "{"ef" * 32}"]', '"reference"'),
            'policy.releases.sgx[1].measurements: want values of the release, got "reference"',
        ),
        (_released("cd" * 32, "cd"), "policy.releases.sgx[1].measurements: want 32 bytes, got 1"),
        (
            _released(f'measurements = ["{"cd" * 32}", "{"ef" * 32}"]', ""),
            "policy.releases.sgx[1]: want a value of the release, got only its name",
        ),
        (
            _released('name = "4.3"', 'name = "4.3"\nsmt = false'),
            "policy.releases.sgx[1].smt: is not a key of a policy",
        ),
        ((WHOLE + "[releases]").encode(), "policy.releases: want releases of at least one TEE, got none"),
        ((WHOLE + "[releases]\nsgx = []").encode(), "policy.releases.sgx: want tables, at least one"),
        ((WHOLE + "[releases]\nsgx = [1]").encode(), "policy.releases.sgx: want tables, at least one"),
        (
            (WHOLE + f'[releases]\nsgx = [{{ name = "1", measurements = {IMAGES} }}, 1]').encode(),
            "policy.releases.sgx: want tables, at least one",
        ),
        ((WHOLE + "[releases]\nsgx = 1").encode(), "policy.releases.sgx: want a list, got an integer"),
        (GOOD.encode() + b"[releases]", "policy.releases: is not a key of a policy"),
    ],
)
def test_releases_that_are_none(data: bytes, message: str) -> None:
    """A release of no TEE, of nothing, or of anything, does not load; version 1 has none."""
    with pytest.raises((FormatError, UsageError)) as caught:
        loads(data)
    assert str(caught.value).startswith(message)
