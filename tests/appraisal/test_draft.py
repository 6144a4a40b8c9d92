"""Drafts: a policy that the evidence meets, for every TEE, and none from evidence that protects nothing."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from kluis.appraisal import ANY, ByTable, ReportDataBinding, Session, Verdict, appraise, dumps, loads
from kluis.appraisal.draft import MACHINES, draft
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.wants import Named, OneOf
from kluis.appraisal.rules.identity import identity_rules
from kluis.appraisal.rules.platform import platform_rules
from kluis.errors import PolicyError
from kluis.evidence import Claims, ProtectionLevel, TcbStatus, Tee
from kluis.evidence.verified import Verified, mint
from kluis.formats.kluis import launch
from kluis.formats.kluis.launch import LaunchConfiguration
from tests.appraisal.rules.test_appraise import DEBUG, FORGE, POLICY, _evidence, _judge
from tests.appraisal.samples import NOW, SAMPLES, SGX


def _proven(claims: Claims) -> Verified[Claims]:
    """Claims as if a verifier had proven them."""
    return mint(claims)


@pytest.mark.parametrize("tee", SAMPLES)
def test_a_draft_is_met_by_its_evidence(tee: Tee) -> None:
    """Every rule but those of the session and of dated lists is met, and the draft loads as itself."""
    claims = SAMPLES[tee]
    policy = draft(_proven(claims))
    rules = [*platform_rules(claims, policy, NOW), *identity_rules(claims, policy.identity)]
    assert {rule.name for rule in rules if not rule.ok} <= {"denylist"}
    assert loads(dumps(policy).encode()) == policy
    assert policy.denylists
    assert not policy.debug


def test_what_the_relying_party_gives() -> None:
    """Nonce and report data do not come from the evidence: the draft wants them given."""
    assert draft(_proven(SGX)).binding == ReportDataBinding(report_data=Session.GIVEN)
    assert draft(_proven(SAMPLES[Tee.TPM])).binding == ReportDataBinding(report_data=ANY, nonce=True)
    bare = dataclasses.replace(SAMPLES[Tee.NITRO], report_data=b"", nonce=None)
    assert draft(_proven(bare)).binding == ReportDataBinding(report_data=ANY)


def test_with_real_evidence() -> None:
    """A draft from evidence of an enclave, with its documents, affirms that evidence and no other."""
    evidence = _evidence()
    documents = {"runtime_data": FORGE.runtime, "launch_configuration": FORGE.launch}
    policy = draft(evidence, **documents)
    assert policy.binding == POLICY.binding
    assert _judge(evidence, policy).verdict is Verdict.AFFIRMING
    other = _judge(_evidence(mrenclave=bytes(32)), policy)
    assert "measurement" in {rule.name for rule in other.failed}
    foreign = draft(evidence)
    given = {"nonce": None, "runtime_data": None, "launch_configuration": None}
    result = appraise(evidence, foreign, **given, report_data=evidence.value.report_data, now=NOW)
    assert result.failed == ()


@pytest.mark.parametrize("name", ["runtime_data", "launch_configuration"])
def test_documents_that_the_evidence_does_not_prove(name: str) -> None:
    """A document that the evidence does not prove is not used for the draft."""
    documents = {"runtime_data": FORGE.runtime, "launch_configuration": FORGE.launch, name: b"{}"}
    with pytest.raises(PolicyError) as caught:
        draft(_evidence(), **documents)
    assert caught.value.code == name


def test_a_composite_has_the_table_of_its_hardware() -> None:
    """A draft of an Azure VM has two tables, and evidence on hardware without a table is refused."""
    azure = SAMPLES[Tee.AZURE]
    policy = draft(_proven(azure))
    assert policy.tees == {Tee.AZURE, Tee.SNP}
    assert isinstance(policy.identity, ByTable)
    alone = ByTable(tables={Tee.AZURE: policy.identity.tables[Tee.AZURE]})
    tee, *_ = platform_rules(azure, dataclasses.replace(policy, identity=alone), NOW)
    assert (tee.ok, tee.got) == (False, "azure on snp")


def test_the_hardware_of_a_composite_is_not_accepted_bare() -> None:
    """A report cut out of an Azure VM's evidence meets no policy that judges what runs above it, too."""
    azure = SAMPLES[Tee.AZURE]
    policy = dataclasses.replace(
        draft(_proven(azure)), denylists=False, binding=ReportDataBinding(report_data=ANY)
    )
    given = {"nonce": None, "runtime_data": None, "launch_configuration": None}
    assert appraise(_proven(azure), policy, **given, now=NOW).failed == ()
    (tee,) = appraise(_proven(SAMPLES[Tee.SNP]), policy, **given, now=NOW).failed
    assert (tee.name, tee.want, tee.got) == ("tee", "azure", "snp")
    assert tee.fix == "pass all evidence of the Azure VM, or a policy for this hardware only"
    assert isinstance(policy.identity, ByTable)
    other = {
        **policy.identity.tables,
        Tee.AZURE: {**policy.identity.tables[Tee.AZURE], "hardware": Named(frozenset({"tdx"}))},
    }
    policy = dataclasses.replace(policy, identity=ByTable(tables=other))
    assert appraise(_proven(SAMPLES[Tee.SNP]), policy, **given, now=NOW).failed == ()


def test_one_machine_alone() -> None:
    """A draft accepts every machine, unless an option names this one."""
    for this_machine, want in ((False, ANY), (True, OneOf(frozenset({SGX.platform.id})))):
        identity = draft(_proven(SGX), this_machine=this_machine).identity
        assert isinstance(identity, ByTable)
        assert identity.tables[Tee.SGX]["platforms"] == want


def test_this_machine_is_the_only_difference() -> None:
    """Naming the machine wants nothing else of what changes with each piece of evidence."""
    for tee, claims in SAMPLES.items():
        one, other = (draft(_proven(claims), this_machine=each).identity for each in (False, True))
        assert isinstance(one, ByTable)
        assert isinstance(other, ByTable)
        for part, wanted in one.tables.items():
            changed = {key for key, want in wanted.items() if other.tables[part][key] != want}
            rules = {field.key: field.rule for field in TABLES[part]}
            assert {rules[key] for key in changed} <= MACHINES, tee


def test_ages_and_numbers() -> None:
    """What the vendor dates and numbers may be no older; the rest is any."""
    tcb = dataclasses.replace(
        SGX.tcb, evaluation=17, date=NOW - timedelta(days=300), advisories=("INTEL-SA-1",)
    )
    policy = draft(_proven(dataclasses.replace(SGX, tcb=tcb, collateral_issued=NOW)))
    assert (policy.min_evaluation, policy.min_tcb_date) == (17, (NOW - timedelta(days=300)).date())
    assert (policy.max_evidence_age, policy.advisories) == (timedelta(minutes=5), frozenset())
    tcb = dataclasses.replace(tcb, evaluation=None, date=None)
    policy = draft(_proven(dataclasses.replace(SGX, tcb=tcb)))
    assert (policy.min_evaluation, policy.min_tcb_date) == (ANY, ANY)
    for tee, days in ((Tee.SGX, 30), (Tee.TDX, 30), (Tee.SNP, 366)):
        for issued, age in ((NOW, timedelta(days=days)), (None, ANY)):
            claims = dataclasses.replace(SAMPLES[tee], collateral_issued=issued)
            assert draft(_proven(claims)).max_collateral_age == age


def test_code_that_is_told_in_one_way() -> None:
    """One measurement, signer or register is enough to know what runs."""
    assert draft(_proven(dataclasses.replace(SAMPLES[Tee.TDX], registers={}))).tees == {Tee.TDX}


def test_what_a_launch_lacked_and_was_granted() -> None:
    """A draft accepts the missing protections, the counter's witness and the insecure grants of the
    launch.
    """
    changes = {"missing": ("landlock",), "grants": ("connect:db", "insecure_jit"), "counter": "tpm"}
    document = dataclasses.replace(LaunchConfiguration.parse(FORGE.launch), **changes).encode()
    evidence = _evidence(configid=launch.config_id(document))
    policy = draft(evidence, runtime_data=FORGE.runtime, launch_configuration=document)
    assert policy.binding == dataclasses.replace(
        POLICY.binding,
        missing=frozenset({"landlock"}),
        counters=frozenset({"tpm"}),
        insecure=frozenset({"insecure_jit"}),
    )


def test_the_maker_s_status_and_advisories() -> None:
    """An old platform is drafted with its status and its advisories, which a reader then sees."""
    tcb = dataclasses.replace(SGX.tcb, status=TcbStatus.SW_HARDENING_NEEDED, advisories=("INTEL-SA-1",))
    policy = draft(_proven(dataclasses.replace(SGX, tcb=tcb)))
    assert policy.tcb_statuses == {TcbStatus.SW_HARDENING_NEEDED}
    assert policy.advisories == {"INTEL-SA-1"}


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        (dataclasses.replace(SGX, debug=True), "debug"),
        (dataclasses.replace(SGX, level=ProtectionLevel.NONE), "protection"),
        (
            dataclasses.replace(SGX, tcb=dataclasses.replace(SGX.tcb, status=TcbStatus.REVOKED)),
            "tcb_status",
        ),
        (
            dataclasses.replace(SGX, tcb=dataclasses.replace(SGX.tcb, status=TcbStatus.NOT_SUPPORTED)),
            "tcb_status",
        ),
        (dataclasses.replace(SAMPLES[Tee.TPM], registers={}), "measurement"),
    ],
)
def test_no_draft_from_what_protects_nothing(claims: Claims, code: str) -> None:
    """From debug, a root without a level, a revoked platform, or only SHA-1 PCRs there is no draft."""
    with pytest.raises(PolicyError) as caught:
        draft(_proven(claims))
    assert caught.value.code == code
    with pytest.raises(PolicyError):
        draft(_evidence(flags=DEBUG))
