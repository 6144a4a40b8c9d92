"""Appraisal: one piece of evidence a rule, in which only that rule fails."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest

from kluis.appraisal import (
    ANY,
    Aspect,
    AttestationResult,
    ByImage,
    BySigner,
    ByTable,
    Policy,
    ReportDataBinding,
    RuntimeBinding,
    Tier,
    Verdict,
    appraise,
    loads,
    strict,
)
from kluis.appraisal.policy.structured import Masked, Registers
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.values import short
from kluis.appraisal.rules.platform import format_age, platform_rules
from kluis.errors import FreshnessError, PolicyError, UsageError
from kluis.evidence import Claims, Collateral, ProtectionLevel, TcbStatus, Tee, Verified, denylist, verify
from kluis.evidence.levels import MEANINGS
from kluis.evidence.model import NOT_JUDGED
from kluis.evidence.verified import mint
from kluis.formats.kluis import launch, runtime_data
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData
from tests.appraisal.samples import SNP
from tests.evidence.forge import DEBUG, IMAGE, NONCE, NOW, SIGNER, Forge

FORGE = Forge()
POLICY = strict(
    ByImage(image_ids=frozenset({IMAGE})),
    protection=frozenset({ProtectionLevel.PROCESS}),
    purpose=Purpose.CLI,
    counters=frozenset({"unwitnessed"}),
    missing=frozenset(),
)


def _binding(**changes: Any) -> Policy:
    assert isinstance(POLICY.binding, RuntimeBinding)
    return dataclasses.replace(POLICY, binding=dataclasses.replace(POLICY.binding, **changes))


def _evidence(collateral: Collateral | None = None, forge: Forge = FORGE, **body: Any) -> Verified[Claims]:
    return verify(
        forge.quote(forge.body(**body)),
        anchors=forge.anchors,
        collateral=collateral or forge.collateral(),
        now=NOW,
    )


def _judge(
    evidence: Verified[Claims] | None = None, policy: Policy = POLICY, **given: Any
) -> AttestationResult:
    fields: dict[str, Any] = {
        "nonce": NONCE,
        "runtime_data": FORGE.runtime,
        "launch_configuration": FORGE.launch,
        "now": NOW,
    }
    return appraise(evidence or _evidence(), policy, **{**fields, **given})


def _runtime(**changes: Any) -> AttestationResult:
    """Judge evidence whose runtime data are changed and bound."""
    document = dataclasses.replace(RuntimeData.parse(FORGE.runtime), **changes).encode()
    bound = _evidence(report_data=runtime_data.report_data(document))
    return _judge(bound, runtime_data=document)


def _launched(policy: Policy = POLICY, **changes: Any) -> AttestationResult:
    """Judge evidence whose launch configuration is changed and bound."""
    document = dataclasses.replace(LaunchConfiguration.parse(FORGE.launch), **changes).encode()
    return _judge(_evidence(configid=launch.config_id(document)), policy, launch_configuration=document)


def test_everything_met() -> None:
    """Good evidence meets every rule, and every rule is reported."""
    result = _judge()
    assert result.verdict is Verdict.AFFIRMING
    assert result.summary == "affirming (20 rules met)"
    assert [rule.name for rule in result.rules] == [
        "tee",
        "protection",
        "debug",
        "denylist",
        "tcb_status",
        "advisories",
        "tcb_evaluation",
        "tcb_date",
        "collateral_age",
        "evidence_age",
        "measurement",
        "runtime_data",
        "purpose",
        "runtime_image",
        "nonce",
        "launch_configuration",
        "missing",
        "counter",
        "insecure",
        "launch_level",
    ]
    assert all(rule.fix is None for rule in result.rules)
    assert (result.failed, result.warnings) == ((), ())
    assert result.runtime_data == RuntimeData.parse(FORGE.runtime)
    assert result.launch == LaunchConfiguration.parse(FORGE.launch)
    assert result.claims == _evidence().value
    assert result.appraised_at == NOW
    assert any("root" in item for item in result.not_kept_out)
    result.require()


def _told(result: AttestationResult) -> list[tuple[str, str, str, Aspect | None, bool, bool]]:
    return [(r.name, r.want, r.got, r.aspect, r.stale, r.affirms) for r in result.rules]


HARD, KEPT, CODE, WHO = Aspect.HARDWARE, Aspect.CONFIGURATION, Aspect.EXECUTABLES, Aspect.INSTANCE_IDENTITY


def test_what_every_rule_says() -> None:
    """Expected and actual value, the aspect, whether it grows stale, and whether meeting it means much."""
    data, config, image, nonce = map(short, (FORGE.body().report_data, FORGE.body().configid, IMAGE, NONCE))
    age = (
        "evidence_age",
        "at most 5 min since verified, valid at 2026-06-01T12:00Z",
        "0 s since verified, valid until 2026-07-01T11:55Z",
        None,
        True,
        False,
    )
    measurement = ("measurement", image, image, CODE, False, True)
    assert _told(_judge()) == [
        ("tee", "sgx", "sgx", HARD, False, False),
        ("protection", "process", "process", HARD, False, True),
        ("debug", "off", "off", KEPT, False, True),
        ("denylist", "any", "on none", HARD, False, False),
        ("tcb_status", "UpToDate", "UpToDate", HARD, False, True),
        ("advisories", "none", "none", HARD, False, False),
        ("tcb_evaluation", "at least 0", "1", HARD, True, False),
        ("tcb_date", "any", "2026-06-01", HARD, True, False),
        ("collateral_age", "at most 30 days", "5 min", HARD, True, False),
        age,
        measurement,
        ("runtime_data", f"the document of report data {data}", "it", WHO, False, False),
        ("purpose", "cli", "cli", WHO, False, False),
        ("runtime_image", image, image, WHO, False, False),
        ("nonce", nonce, nonce, WHO, True, False),
        ("launch_configuration", f"the document of CONFIGID {config}", "it", KEPT, False, True),
        ("missing", "none", "none", KEPT, False, True),
        ("counter", "unwitnessed", "unwitnessed", KEPT, False, True),
        ("insecure", "none", "none", KEPT, False, True),
        ("launch_level", "process", "process", KEPT, False, True),
    ]
    lax = _policy(
        debug=True,
        protection=frozenset({ProtectionLevel.NONE, ProtectionLevel.PROCESS}),
        advisories=ANY,
        min_evaluation=ANY,
        max_collateral_age=ANY,
        denylists=True,
        binding=ReportDataBinding(report_data=ANY, nonce=True),
    )
    assert _told(_judge(policy=lax)) == [
        ("tee", "sgx", "sgx", HARD, False, False),
        ("protection", "none or process", "process", HARD, False, True),
        ("debug", "on or off", "off", KEPT, False, False),
        (
            "denylist",
            f"a platform that is on no list of {denylist.reviewed_on()}",
            "on none",
            HARD,
            False,
            False,
        ),
        ("tcb_status", "UpToDate", "UpToDate", HARD, False, True),
        ("advisories", "any", "none", HARD, False, False),
        ("tcb_evaluation", "any", "1", HARD, True, False),
        ("tcb_date", "any", "2026-06-01", HARD, True, False),
        ("collateral_age", "any", "5 min", HARD, True, False),
        age,
        measurement,
        ("report_data", "any", data, None, False, False),
        ("nonce", nonce, "none", WHO, True, False),
    ]


def test_no_truth_value() -> None:
    """A result cannot be used as a condition: a forgotten look at it would pass."""
    with pytest.raises(TypeError) as caught:
        bool(_judge())
    assert str(caught.value) == "AttestationResult has no truth value: read .verdict, or call .require()"


def test_worst_first() -> None:
    """The verdict enum starts at its worst member."""
    assert list(Verdict) == [Verdict.CONTRAINDICATED, Verdict.WARNING, Verdict.AFFIRMING]


OUT_OF_DATE = {"tcbStatus": "OutOfDate", "advisoryIDs": ["KLUIS-1", "KLUIS-2"]}


def _status(**level: Any) -> Verified[Claims]:
    return _evidence(FORGE.with_tcb_info(lambda d: d["tcbLevels"][0].update(level)))


def _policy(**changes: Any) -> Policy:
    return dataclasses.replace(POLICY, **changes)


OUT_OF_DATE_ALLOWED = frozenset({TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE})
BY_SIGNER = BySigner(signers=frozenset({SIGNER}), product_id=7, min_svn=3)
UNPROVEN = "a document that the evidence does not prove"

# name: (how it is judged, the rules that fail and what each wants and got)
FAILURES: dict[str, tuple[Callable[[], AttestationResult], dict[str, tuple[str, str]]]] = {
    "another level": (
        lambda: _judge(policy=_policy(protection=frozenset({ProtectionLevel.HARDWARE_SGX}))),
        {"protection": ("hardware-sgx", "process")},
    ),
    "debug": (
        lambda: _judge(_evidence(flags=DEBUG)),
        {"protection": ("process", "none"), "debug": ("off", "on")},
    ),
    "tcb status": (
        lambda: _judge(_status(tcbStatus="OutOfDate")),
        {"tcb_status": ("UpToDate", "OutOfDate")},
    ),
    "revoked": (lambda: _judge(_status(tcbStatus="Revoked")), {"tcb_status": ("UpToDate", "Revoked")}),
    "advisories": (
        lambda: _judge(_status(**OUT_OF_DATE), _policy(tcb_statuses=OUT_OF_DATE_ALLOWED)),
        {"advisories": ("none", "KLUIS-1, KLUIS-2")},
    ),
    "one advisory more": (
        lambda: _judge(
            _status(**OUT_OF_DATE),
            _policy(tcb_statuses=OUT_OF_DATE_ALLOWED, advisories=frozenset({"KLUIS-1"})),
        ),
        {"advisories": ("only KLUIS-1", "KLUIS-2")},
    ),
    "tcb evaluation": (
        lambda: _judge(policy=_policy(min_evaluation=2)),
        {"tcb_evaluation": ("at least 2", "1")},
    ),
    "an old level": (
        lambda: _judge(policy=_policy(min_tcb_date=date(2026, 6, 2))),
        {"tcb_date": ("2026-06-02 or later", "2026-06-01")},
    ),
    "old collateral": (
        lambda: _judge(policy=_policy(max_collateral_age=timedelta(seconds=299))),
        {"collateral_age": ("at most 4 min", "5 min")},
    ),
    "verified long ago": (
        lambda: _judge(now=NOW + timedelta(seconds=301)),
        {
            "evidence_age": (
                "at most 5 min since verified, valid at 2026-06-01T12:05Z",
                "5 min since verified, valid until 2026-07-01T11:55Z",
            )
        },
    ),
    "verified in the future": (
        lambda: _judge(now=NOW - timedelta(seconds=1)),
        {
            "evidence_age": (
                "at most 5 min since verified, valid at 2026-06-01T11:59Z",
                "-1 s since verified, valid until 2026-07-01T11:55Z",
            )
        },
    ),
    "run out since": (
        lambda: _judge(
            now=NOW + timedelta(days=30),
            policy=_policy(max_evidence_age=timedelta(days=90), max_collateral_age=timedelta(days=90)),
        ),
        {
            "evidence_age": (
                "at most 90 days since verified, valid at 2026-07-01T12:00Z",
                "30 days since verified, valid until 2026-07-01T11:55Z",
            )
        },
    ),
    "another image": (
        lambda: _judge(policy=_policy(identity=ByImage(image_ids=frozenset({bytes(32), b"\1" * 32})))),
        {"measurement": ("00000000..0000 or 01010101..0101", "00010203..1e1f")},
    ),
    "another signer": (
        lambda: _judge(
            policy=_policy(identity=dataclasses.replace(BY_SIGNER, signers=frozenset({bytes(32)})))
        ),
        {"signer": ("00000000..0000", "64656667..8283")},
    ),
    "another product": (
        lambda: _judge(policy=_policy(identity=dataclasses.replace(BY_SIGNER, product_id=8))),
        {"product_id": ("8", "7")},
    ),
    "an older version": (
        lambda: _judge(policy=_policy(identity=dataclasses.replace(BY_SIGNER, min_svn=4))),
        {"svn": ("at least 4", "3")},
    ),
    "another purpose": (lambda: _runtime(purpose=Purpose.APP), {"purpose": ("cli", "app")}),
    "another image in the runtime data": (
        lambda: _runtime(image_id=bytes(32)),
        {"runtime_image": ("00010203..1e1f", "00000000..0000")},
    ),
    "another nonce": (
        lambda: _judge(nonce=b"\1" * 16),
        {"nonce": ("01010101..0101", "9f02aa77..aa77")},
    ),
    "a nonce that begins the same": (
        lambda: _judge(nonce=NONCE[:8]),
        {"nonce": ("9f02aa779f02aa77", "9f02aa77..aa77")},
    ),
    "no nonce inside": (lambda: _runtime(nonce=b""), {"nonce": ("9f02aa77..aa77", "none")}),
    "no nonce of the relying party's": (
        lambda: _judge(nonce=None),
        {"nonce": ("one, and the relying party gave none", "9f02aa77..aa77")},
    ),
    "an empty nonce on both sides": (
        lambda: _empty_nonce(),
        {"nonce": ("one, and the relying party gave none", "none")},
    ),
    "no runtime data": (
        lambda: _judge(runtime_data=None),
        {
            "runtime_data": (f"the document of report data {short(_evidence().value.report_data)}", "none"),
            "purpose": ("cli", "none"),
            "runtime_image": ("00010203..1e1f", "none"),
            "nonce": ("9f02aa77..aa77", "none"),
        },
    ),
    "runtime data of somebody's own": (
        lambda: _judge(runtime_data=FORGE.runtime.replace(b"cli", b"app")),
        {
            "runtime_data": (f"the document of report data {short(_evidence().value.report_data)}", UNPROVEN),
            "purpose": ("cli", UNPROVEN),
            "runtime_image": ("00010203..1e1f", UNPROVEN),
            "nonce": ("9f02aa77..aa77", UNPROVEN),
        },
    ),
    "report data that end in something": (
        lambda: _judge(_evidence(report_data=runtime_data.report_data(FORGE.runtime)[:63] + b"\1")),
        {
            "runtime_data": (
                f"the document of report data {FORGE.body().report_data[:4].hex()}..0001",
                UNPROVEN,
            ),
            "purpose": ("cli", UNPROVEN),
            "runtime_image": ("00010203..1e1f", UNPROVEN),
            "nonce": ("9f02aa77..aa77", UNPROVEN),
        },
    ),
    "runtime data that are bound and malformed": (
        lambda: _judge(_evidence(report_data=runtime_data.report_data(b"[]")), runtime_data=b"[]"),
        {
            "runtime_data": (
                f"the document of report data {short(runtime_data.report_data(b'[]'))}",
                "runtime data: want an object, got a list",
            ),
            "purpose": ("cli", "runtime data: want an object, got a list"),
            "runtime_image": ("00010203..1e1f", "runtime data: want an object, got a list"),
            "nonce": ("9f02aa77..aa77", "runtime data: want an object, got a list"),
        },
    ),
    "no launch configuration": (
        lambda: _judge(launch_configuration=None),
        _no_launch := {
            "launch_configuration": (f"the document of CONFIGID {short(FORGE.body().configid)}", "none"),
            "missing": ("none", "none"),
            "counter": ("unwitnessed", "none"),
            "insecure": ("none", "none"),
            "launch_level": ("process", "none"),
        },
    ),
    "a launch configuration of somebody's own": (
        lambda: _judge(launch_configuration=FORGE.launch.replace(b"8", b"9")),
        {name: (want, UNPROVEN) for name, (want, _) in _no_launch.items()},
    ),
    "a launch configuration without KSS": (
        lambda: _judge(_evidence(flags=0x05)),
        {
            name: (
                "the document of CONFIGID (none: KSS is off)" if name == "launch_configuration" else want,
                UNPROVEN,
            )
            for name, (want, _) in _no_launch.items()
        },
    ),
    "a launch configuration that is bound and malformed": (
        lambda: _judge(_evidence(configid=launch.config_id(b"[]")), launch_configuration=b"[]"),
        {
            name: (
                f"the document of CONFIGID {short(launch.config_id(b'[]'))}"
                if name == "launch_configuration"
                else want,
                "launch configuration: want an object, got a list",
            )
            for name, (want, _) in _no_launch.items()
        },
    ),
    "a lack": (
        lambda: _launched(missing=("landlock", "memfd_secret")),
        {"missing": ("none", "landlock, memfd_secret")},
    ),
    "another lack": (
        lambda: _launched(_binding(missing=frozenset({"landlock"})), missing=("landlock", "memfd_secret")),
        {"missing": ("only landlock", "memfd_secret")},
    ),
    "a counter without witness": (
        lambda: _launched(_binding(counters=frozenset({"tpm"}))),
        {"counter": ("tpm", "unwitnessed")},
    ),
    "an insecure grant": (
        lambda: _launched(grants=("connect:db", "insecure_jit")),
        {"insecure": ("none", "insecure_jit")},
    ),
    "other insecure grants": (
        lambda: _launched(
            _binding(insecure=frozenset({"insecure_jit"})),
            grants=("insecure_jit", "insecure_raw_report_data", "insecure_relaxed"),
        ),
        {"insecure": ("only insecure_jit", "insecure_raw_report_data, insecure_relaxed")},
    ),
    "any advisory, of a status that is not accepted": (
        lambda: _judge(_status(**OUT_OF_DATE), _policy(advisories=ANY)),
        {"tcb_status": ("UpToDate", "OutOfDate")},
    ),
    "a lower level of its own": (
        lambda: _judge(_evidence_at(ProtectionLevel.PROCESS_USER)),
        {"protection": ("process", "process-user"), "launch_level": ("process-user", "process")},
    ),
    "a level of its own": (
        lambda: _launched(level="process-user"),
        {"launch_level": ("process", "process-user")},
    ),
    "other report data of a foreign enclave": (
        lambda: _judge(policy=_policy(binding=ReportDataBinding(report_data=bytes(64)))),
        {"report_data": ("00000000..0000", short(FORGE.body().report_data))},
    ),
}


def _evidence_at(level: ProtectionLevel) -> Verified[Claims]:
    return mint(dataclasses.replace(_evidence().value, level=level))


def _empty_nonce() -> AttestationResult:
    document = dataclasses.replace(RuntimeData.parse(FORGE.runtime), nonce=b"").encode()
    bound = _evidence(report_data=runtime_data.report_data(document))
    return _judge(bound, runtime_data=document, nonce=b"")


@pytest.mark.parametrize("name", FAILURES)
def test_rule(name: str) -> None:
    """Each rule fails for its evidence, reports expected, actual and fix, and lets the others run."""
    judge, want = FAILURES[name]
    result = judge()
    assert {rule.name: (rule.want, rule.got) for rule in result.failed} == want
    assert all(rule.fix for rule in result.failed)
    assert result.verdict is Verdict.CONTRAINDICATED


STALE = {"tcb_evaluation", "tcb_date", "collateral_age", "evidence_age", "nonce"}


@pytest.mark.parametrize("name", FAILURES)
def test_require(name: str) -> None:
    """What only is old is stale, everything else is refused by policy; each failed rule is named."""
    judge, want = FAILURES[name]
    result = judge()
    error = FreshnessError if set(want) <= STALE else PolicyError
    with pytest.raises(error) as caught:
        result.require()
    assert str(caught.value) == "contraindicated: " + "; ".join(
        f"{rule.name}: want {rule.want}, got {rule.got}" for rule in result.failed
    )
    assert type(caught.value) is error
    assert caught.value.code == result.failed[0].name
    assert caught.value.hint == result.failed[0].fix


def test_every_rule_has_a_case() -> None:
    """No rule is without evidence in which it fails."""
    failing = {name for _, want in FAILURES.values() for name in want}
    by_signer = _judge(policy=_policy(identity=BY_SIGNER))
    foreign = _judge(policy=_policy(binding=ReportDataBinding(report_data=FORGE.body().report_data)))
    every = {rule.name for result in (_judge(), by_signer, foreign) for rule in result.rules}
    assert failing | {"tee", "denylist"} == every
    assert by_signer.verdict is foreign.verdict is Verdict.AFFIRMING


WARNED: dict[str, tuple[Callable[[], AttestationResult], tuple[str, ...]]] = {
    "debug": (
        lambda: _judge(
            _evidence(flags=DEBUG), _policy(debug=True, protection=frozenset({ProtectionLevel.NONE}))
        ),
        ("a debug enclave keeps nothing from its host",),
    ),
    "status": (
        lambda: _judge(_status(tcbStatus="OutOfDate"), _policy(tcb_statuses=OUT_OF_DATE_ALLOWED)),
        ("the platform is OutOfDate: no advisory named",),
    ),
    "status with advisories": (
        lambda: _judge(
            _status(**OUT_OF_DATE),
            _policy(tcb_statuses=OUT_OF_DATE_ALLOWED, advisories=frozenset({"KLUIS-1", "KLUIS-2"})),
        ),
        ("the platform is OutOfDate: KLUIS-1, KLUIS-2",),
    ),
    "lack": (
        lambda: _launched(
            _binding(missing=frozenset({"landlock", "memfd_secret"})), missing=("landlock", "memfd_secret")
        ),
        ("launched without landlock, memfd_secret",),
    ),
    "grant": (
        lambda: _launched(
            _binding(insecure=frozenset({"insecure_jit", "insecure_raw_report_data"})),
            grants=("connect:db", "insecure_jit"),
        ),
        ("granted insecure_jit",),
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_warnings(name: str) -> None:
    """What a policy accepts and a reader should know makes the verdict a warning."""
    judge, want = WARNED[name]
    result = judge()
    assert result.verdict is Verdict.WARNING
    assert result.warnings == want
    result.require()


def test_up_to_date_advisories_are_no_matter() -> None:
    """Advisories of an UpToDate platform are fixed ones."""
    assert _judge(_status(tcbStatus="UpToDate", advisoryIDs=["KLUIS-1"])).verdict is Verdict.AFFIRMING


def test_advisories_that_are_accepted_are_named() -> None:
    """The vendor's advisories are listed if the policy accepts them, and if an update fixed them."""
    accepted = _policy(tcb_statuses=OUT_OF_DATE_ALLOWED, advisories=frozenset({"KLUIS-1", "KLUIS-2"}))
    mended = _judge(_status(tcbStatus="UpToDate", advisoryIDs=["KLUIS-1"]))
    for result, got in (
        (_judge(_status(**OUT_OF_DATE), accepted), "KLUIS-1, KLUIS-2"),
        (mended, "KLUIS-1, fixed: UpToDate"),
        (_judge(), "none"),
    ):
        rule = {rule.name: rule for rule in result.rules}["advisories"]
        assert (rule.ok, rule.got) == (True, got)


def test_what_nothing_ends() -> None:
    """A key without a certificate, and one without an end date, are valid without end."""
    endless = dataclasses.replace(
        _evidence().value, valid_until=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    )
    rule = {rule.name: rule for rule in platform_rules(endless, POLICY, NOW)}["evidence_age"]
    assert rule.got == "0 s since verified, valid without end"


def test_what_is_not_what_it_should_be() -> None:
    """Text for bytes, and unverified claims, are reported as that, before any rule runs."""
    untyped: Any = appraise
    given = {"nonce": None, "runtime_data": None, "launch_configuration": None, "now": NOW}
    for words, message in (
        ((_evidence().value, POLICY, given), "evidence: want Verified[Claims], got Claims"),
        ((_evidence(), POLICY, {**given, "nonce": "00"}), "nonce: want bytes, got str"),
        ((_evidence(), POLICY, {**given, "report_data": "00"}), "report_data: want bytes, got str"),
    ):
        evidence, policy, named = words
        with pytest.raises(UsageError) as caught:
            untyped(evidence, policy, **named)
        assert str(caught.value) == message
    with pytest.raises(UsageError) as caught:
        cast("Any", loads)("version = 2")
    assert str(caught.value) == "policy: want bytes, got str"
    for data in ("00", bytearray(b"0")):
        with pytest.raises(UsageError) as caught:
            cast("Any", verify)(data, anchors=FORGE.anchors, collateral=None, now=NOW)
        assert str(caught.value) == f"evidence: want bytes, got {type(data).__name__}"


def test_the_shortest_nonce() -> None:
    """A nonce of one byte is one."""
    document = dataclasses.replace(RuntimeData.parse(FORGE.runtime), nonce=b"\7").encode()
    bound = _evidence(report_data=runtime_data.report_data(document))
    assert _judge(bound, runtime_data=document, nonce=b"\7").failed == ()


def test_nonce_not_asked_for() -> None:
    """A policy without a nonce has no rule for it."""
    result = _judge(policy=_binding(nonce=False), nonce=None)
    assert "nonce" not in {rule.name for rule in result.rules}
    assert result.verdict is Verdict.AFFIRMING


def test_hardware_measures_pages() -> None:
    """Under a vendor's root the measurement is of pages, and the runtime data's image id is another
    number.
    """
    claims = dataclasses.replace(_evidence().value, anchor="Intel SGX Root CA")
    from kluis.evidence.verified import mint

    result = _judge(mint(claims))
    assert "runtime_image" not in {rule.name for rule in result.rules}


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurement, report data, CONFIGID, image id and nonce go through compare_digest, whole."""
    seen: list[int] = []
    real = hmac.compare_digest

    def watch(a: bytes, b: bytes) -> bool:
        seen.append(len(a))
        return real(a, b)

    evidence = _evidence()
    monkeypatch.setattr(hmac, "compare_digest", watch)
    _judge(evidence)
    assert seen == [32, 64, 32, 16, 64]


@pytest.mark.parametrize(
    ("age", "shown"),
    [(timedelta(seconds=119), "119 s"), (timedelta(hours=3), "3 h"), (timedelta(hours=95), "95 h")],
)
def test_ages_are_readable(age: timedelta, shown: str) -> None:
    """Ages are shown in the unit that fits."""
    result = _judge(now=NOW + age)
    assert result.rules[9].got == f"{shown} since verified, valid until 2026-07-01T11:55Z"


WHOLE = ByTable(
    tables={
        Tee.SGX: {field.key: field.form.draft(field.claim(_evidence().value)) for field in TABLES[Tee.SGX]}
    }
)


def test_by_table() -> None:
    """A policy with a table for SGX has a rule for every field of it."""
    result = _judge(policy=_policy(identity=WHOLE))
    assert result.failed == ()
    assert {field.rule for field in TABLES[Tee.SGX]} <= {rule.name for rule in result.rules}


def test_a_tee_without_a_table_is_refused() -> None:
    """Evidence of a TEE without a table in the policy fails, whatever its other claims."""
    claims = dataclasses.replace(_evidence().value, tee=Tee.TDX)
    tee, *_ = platform_rules(claims, _policy(identity=WHOLE), NOW)
    assert (tee.name, tee.ok, tee.want, tee.got) == ("tee", False, "sgx", "tdx")
    result = _judge(mint(claims), _policy(identity=WHOLE))
    assert ([rule.name for rule in result.failed], result.warnings) == (["tee"], ())


def test_a_policys_tables_cannot_be_changed() -> None:
    """Changing a policy's inputs later does not change the policy."""
    given = {Tee.SGX: dict(WHOLE.tables[Tee.SGX])}
    identity = ByTable(tables=given)
    given[Tee.SGX]["measurements"] = ANY
    given[Tee.TDX] = {}
    assert identity == WHOLE
    with pytest.raises(TypeError):
        identity.tables[Tee.TDX] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        identity.tables[Tee.SGX]["measurements"] = ANY  # type: ignore[index]


@pytest.mark.parametrize("size", [0, 31, 33])
def test_sizes_of_names(size: int) -> None:
    """Images and signers are named by 32 bytes."""
    for make in (
        lambda name: ByImage(image_ids=frozenset({bytes(32), name})),
        lambda name: BySigner(signers=frozenset({bytes(32), name}), product_id=0, min_svn=0),
    ):
        make(bytes(32))
        with pytest.raises(UsageError, match=rf"want 32 bytes, got {size}$"):
            make(bytes(size))


def test_the_longest_report_data() -> None:
    """No evidence has more than 1024 bytes of report data."""
    assert ReportDataBinding(report_data=bytes(1024)).report_data == bytes(1024)
    with pytest.raises(UsageError, match=r"want at most 1024 bytes, got 1025$"):
        ReportDataBinding(report_data=bytes(1025))


def test_strict() -> None:
    """A strict policy leaves out nothing, and requires more than the minimum."""
    assert strict(
        BY_SIGNER,
        protection=frozenset({ProtectionLevel.PROCESS}),
        purpose=Purpose.CLI,
        counters=frozenset({"tpm"}),
        missing=frozenset({"landlock"}),
        emulated_roots=("root.pem",),
    ) == Policy(
        protection=frozenset({ProtectionLevel.PROCESS}),
        debug=False,
        denylists=False,
        identity=BY_SIGNER,
        tcb_statuses=frozenset({TcbStatus.UP_TO_DATE}),
        advisories=frozenset(),
        min_evaluation=0,
        min_tcb_date=ANY,
        max_collateral_age=timedelta(days=30),
        max_evidence_age=timedelta(seconds=300),
        binding=RuntimeBinding(
            purpose=Purpose.CLI,
            nonce=True,
            missing=frozenset({"landlock"}),
            counters=frozenset({"tpm"}),
            insecure=frozenset(),
        ),
        emulated_roots=("root.pem",),
    )


def test_a_table_of_another_tee_than_the_claims() -> None:
    """Bits and registers that the evidence does not have meet no want, and are reported as none."""
    claims = dataclasses.replace(_evidence().value, tee=Tee.TDX)
    table = {field.key: ANY for field in TABLES[Tee.TDX]} | {
        "attributes": Masked(mask=1, value=0),
        "registers": Registers({"rtmr0": frozenset({bytes(48)})}),
    }
    result = _judge(mint(claims), _policy(identity=ByTable(tables={Tee.TDX: table})))
    assert [(rule.name, rule.got) for rule in result.failed] == [
        ("registers", "none"),
        ("attributes", "none"),
    ]


def test_any_is_told() -> None:
    """Wants of "any" are met, and reported if they leave too much open."""
    anything = ByTable(tables={Tee.SGX: {field.key: ANY for field in TABLES[Tee.SGX]}})
    result = _judge(
        policy=_policy(
            identity=anything,
            advisories=ANY,
            min_evaluation=ANY,
            max_collateral_age=ANY,
            binding=ReportDataBinding(report_data=ANY),
        )
    )
    assert result.failed == ()
    assert result.verdict is Verdict.WARNING
    assert result.warnings == (
        "the policy binds this evidence to nothing: it may be a replay, or another's",
        "the policy accepts any code",
    )
    assert Aspect.EXECUTABLES not in result.vector


@pytest.mark.parametrize(
    ("opened", "told"),
    [
        ({"measurements", "signers"}, True),
        ({"measurements"}, False),
        ({"signers"}, False),
        ({"product_id", "min_svn"}, False),
    ],
)
def test_any_code_is_told(opened: set[str], told: bool) -> None:
    """Any code is accepted where nothing is wanted of measurement and signer, whatever else is wanted."""
    table = {key: ANY if key in opened else want for key, want in WHOLE.tables[Tee.SGX].items()}
    result = _judge(policy=_policy(identity=ByTable(tables={Tee.SGX: table})))
    assert (result.failed, "the policy accepts any code" in result.warnings) == ((), told)


def test_what_no_maker_judges_is_no_warning() -> None:
    """A platform that its vendor does not rate is not reported as out of date."""
    claims = dataclasses.replace(_evidence().value, tcb=NOT_JUDGED)
    policy = _policy(tcb_statuses=frozenset({TcbStatus.NOT_JUDGED}), min_evaluation=ANY)
    result = _judge(mint(claims), policy)
    assert (result.verdict, result.warnings) == (Verdict.AFFIRMING, ())
    assert (result.current, result.vector[Aspect.HARDWARE]) == (True, 2)


def test_code_that_nobody_signed() -> None:
    """A policy of signers refuses what has none."""
    claims = dataclasses.replace(_evidence().value, signer=None)
    result = _judge(mint(claims), _policy(identity=BY_SIGNER))
    assert [(rule.name, rule.got) for rule in result.failed] == [("signer", "none")]


def test_a_field_speaks_of_its_own_aspect() -> None:
    """A want about hardware is reported for hardware, met or not; one about code, for code."""
    rules = {rule.name: rule for rule in _judge(policy=_policy(identity=WHOLE)).rules}
    for field in TABLES[Tee.SGX]:
        assert rules[field.rule].aspect is field.aspect, field.key
    assert {rules[name].aspect for name in ("measurement", "product")} == {
        Aspect.EXECUTABLES,
        Aspect.HARDWARE,
    }


def test_foreign_evidence_has_no_documents() -> None:
    """Documents of a Kluis enclave that come with other evidence are not reported as proven."""
    binding = ReportDataBinding(report_data=FORGE.body().report_data)
    result = _judge(policy=_policy(binding=binding))
    assert (result.runtime_data, result.launch) == (None, None)


def test_evidence_that_is_bound_to_nothing_is_told() -> None:
    """Where the report data wanted are those of evidence that has none, nothing tells it from a replay."""
    claims = dataclasses.replace(_evidence().value, report_data=b"")
    for nonce, told in ((False, True), (True, False)):
        policy = _policy(binding=ReportDataBinding(report_data=b"", nonce=nonce))
        warnings = _judge(mint(claims), policy).warnings
        assert ("binds this evidence to nothing" in " ".join(warnings)) is told


def test_a_clock_without_a_zone() -> None:
    """A naive time could be any of two dozen; it is the caller's fault, and no rule's."""
    with pytest.raises(UsageError, match=r"^now: want an aware time, got a naive one$"):
        _judge(now=NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    "changes",
    [
        {"protection": "process-user"},
        {"tcb_statuses": "UpToDate"},
    ],
)
def test_a_policy_made_of_text(changes: dict[str, Any]) -> None:
    """A level is a substring of another: a policy with a string instead of a set is refused."""
    with pytest.raises(UsageError, match=r"want a set of values, got str$"):
        _policy(**changes)


@pytest.mark.parametrize(("day", "ok"), [(1, True), (31, True), (32, True), (33, False)])
def test_a_level_of_a_day_or_later(day: int, ok: bool) -> None:
    """A platform's TCB level is as recent as the policy requires, or more recent."""
    since = date(2026, 5, 1) + timedelta(days=day - 1)
    rule = next(rule for rule in _judge(policy=_policy(min_tcb_date=since)).rules if rule.name == "tcb_date")
    assert (rule.ok, rule.want, rule.got) == (ok, f"{since} or later", "2026-06-01")


def test_what_is_not_there_meets_no_least() -> None:
    """If the vendor publishes no evaluation, date or collateral, a policy that requires one fails."""
    claims = dataclasses.replace(_evidence().value, tcb=NOT_JUDGED, collateral_issued=None)
    policy = _policy(min_tcb_date=date(2026, 1, 1))
    failed = {rule.name: rule.got for rule in platform_rules(claims, policy, NOW) if not rule.ok}
    assert failed == {
        "tcb_status": "NotJudged",
        "tcb_evaluation": "none",
        "tcb_date": "none",
        "collateral_age": "no collateral with a date",
    }


def test_the_status_is_never_better_than_the_vector() -> None:
    """Who reads the status knows no policy: what keeps little out is a warning, whatever was accepted."""
    result = _judge()
    assert dict(result.vector) == {
        Aspect.CONFIGURATION: 2,
        Aspect.EXECUTABLES: 3,
        Aspect.HARDWARE: 2,
        Aspect.RUNTIME_OPAQUE: 32,
    }
    assert (result.verdict, result.status) == (Verdict.AFFIRMING, Tier.WARNING)
    debug = _judge(_evidence(flags=DEBUG), _policy(debug=True, protection=frozenset({ProtectionLevel.NONE})))
    assert (debug.verdict, debug.status) == (Verdict.WARNING, Tier.CONTRAINDICATED)
    stale = _judge(now=NOW + timedelta(seconds=301))
    assert stale.status is Tier.CONTRAINDICATED
    assert stale.summary == "contraindicated (1 of 20 rules failed)"
    old = _judge(_status(tcbStatus="OutOfDate"), _policy(tcb_statuses=OUT_OF_DATE_ALLOWED))
    assert old.vector[Aspect.HARDWARE] == 32


def test_a_platform_on_a_denylist_is_refused() -> None:
    """If the policy uses the dated lists, a broken product line fails; otherwise it is reported."""
    asked = dataclasses.replace(_policy(identity=WHOLE), denylists=True)
    for policy, ok in ((asked, False), (dataclasses.replace(asked, denylists=False), True)):
        rule = {rule.name: rule for rule in platform_rules(SNP, policy, NOW)}["denylist"]
        assert rule.ok is ok
        assert "milan-vcek-seed" in rule.got
    assert "refuse Milan" in str(
        {rule.name: rule.fix for rule in platform_rules(SNP, asked, NOW)}["denylist"]
    )
    result = dataclasses.replace(_judge(), claims=SNP)
    entries = denylist.match(SNP), denylist.match_bus(SNP)
    assert all(entries)
    assert result.not_kept_out == (
        *MEANINGS[SNP.level].lets_in,
        *(f"{entry.title} ({entry.id})" for found in entries for entry in found),
    )


def test_what_affirms() -> None:
    """Of the rules about the platform, level, status and debug affirm; ages and lists say nothing good."""
    claims = _evidence().value
    affirming = {rule.name for rule in platform_rules(claims, POLICY, NOW) if rule.affirms}
    assert affirming == {"protection", "debug", "tcb_status"}
    lax = _policy(debug=True, protection=frozenset({ProtectionLevel.NONE, ProtectionLevel.PROCESS}))
    affirming = {rule.name for rule in platform_rules(claims, lax, NOW) if rule.affirms}
    assert affirming == {"protection", "tcb_status"}


def test_the_last_moment_is_in_time() -> None:
    """An age of exactly the most, and the very end of validity, are still in time; a second more is not."""
    claims = _evidence().value
    assert claims.collateral_issued is not None
    age = NOW - claims.collateral_issued
    late = claims.valid_until
    for policy, now, name in (
        (_policy(max_collateral_age=age), NOW, "collateral_age"),
        (POLICY, NOW + timedelta(minutes=5), "evidence_age"),
        (POLICY, NOW, "evidence_age"),
        (_policy(max_evidence_age=timedelta(days=90)), late, "evidence_age"),
    ):
        for moment, ok in ((now, True), (now + timedelta(seconds=301), False)):
            rule = {rule.name: rule for rule in platform_rules(claims, policy, moment)}[name]
            assert rule.ok is ok, (name, moment)


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=120), "2 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(minutes=120), "2 h"),
        (timedelta(hours=96), "4 days"),
        (timedelta(seconds=-121), "-3 min"),
        (timedelta(minutes=-120), "-2 h"),
        (timedelta(days=-4), "-4 days"),
    ],
)
def test_ages_change_their_unit(age: timedelta, text: str) -> None:
    """From two of a larger unit on, ages are shown in it; days from four on."""
    assert format_age(age) == text


def test_a_lack_that_is_accepted_is_shown() -> None:
    """What the enclave did without is in the rule's line, also where the policy accepts it."""
    accepted = _binding(missing=frozenset({"landlock", "memfd_secret"}))
    rule = next(each for each in _launched(accepted, missing=("landlock",)).rules if each.name == "missing")
    assert (rule.ok, rule.got) == (True, "landlock")


def test_a_lack_that_is_refused_names_the_line_that_accepts_it() -> None:
    """The hint is what a policy's author may paste, together with what the policy accepts already."""
    accepted = _binding(missing=frozenset({"landlock"}))
    with pytest.raises(PolicyError) as refused:
        _launched(accepted, missing=("landlock", "memfd_secret")).require()
    assert refused.value.hint is not None
    assert """: missing = ["landlock", "memfd_secret"] in a policy's [launch], """ in refused.value.hint
