"""Rules on what the evidence was made for: report data, nonce, and the documents of a Kluis enclave.

Documents from a hostile host are judged, too: a document that the evidence does not prove fails its rule, and
every rule that depends on it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.model import ReportDataBinding, RuntimeBinding, Session
from kluis.appraisal.policy.values import ABSENT, either, format_list
from kluis.appraisal.policy.wants import Any
from kluis.appraisal.results.rule import Rule
from kluis.errors import FormatError
from kluis.evidence.model import Claims
from kluis.formats.encoding.brief import short
from kluis.formats.kluis import launch, runtime_data
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.formats.kluis.runtime_data import RuntimeData

UNPROVEN: Final = "a document that the evidence does not prove"
NOT_GIVEN: Final = "one, and the relying party gave none"
EMULATED: Final = "Kluis emulated"
RENEW: Final = "the evidence was made for something else: ask for new evidence"
REPLAY: Final = "ask for new evidence over your own nonce"
GIVE_NONCE: Final = "give the nonce you made: --nonce"


def report_data_rules(
    claims: Claims, binding: ReportDataBinding, nonce: bytes | None, wanted: bytes | None
) -> Iterator[Rule]:
    """Rules on the binding of evidence that is not of a Kluis enclave."""
    want, got = binding.report_data, claims.report_data
    if isinstance(want, Any):
        yield Rule.of("report_data", True, want="any", got=short(got) or ABSENT, fix=RENEW, affirms=False)
    elif want is Session.GIVEN:
        yield _exact(
            "report_data", wanted, got, fix=RENEW if wanted else "give what you bound: --report-data"
        )
    elif want is Session.NONCE:
        known = nonce if nonce and len(nonce) <= len(got) else None
        padded = known.ljust(len(got), b"\0") if known else None
        yield _exact("report_data", padded, got, fix=REPLAY if known else GIVE_NONCE, stale=True)
    else:
        yield _same("report_data", want, got, fix=RENEW)
    if binding.nonce:
        fix = REPLAY if nonce else GIVE_NONCE
        if claims.nonce is None:
            fix = 'evidence of this kind has no place for a nonce: bind it with report_data = "nonce"'
        yield _exact("nonce", nonce, claims.nonce, fix=fix, stale=True)


def _exact(name: str, want: bytes | None, got: bytes | None, *, fix: str, stale: bool = False) -> Rule:
    """Require the value that the relying party passes to appraisal; without one, the rule fails."""
    return Rule.of(
        name,
        bool(want) and got is not None and hmac.compare_digest(got, want or b""),
        want=short(want) if want else NOT_GIVEN,
        got=short(got) or ABSENT if got is not None else ABSENT,
        fix=fix,
        stale=stale,
        aspect=Aspect.INSTANCE_IDENTITY,
        affirms=False,
    )


def _same(name: str, want: bytes, got: bytes, *, fix: str) -> Rule:
    return Rule.of(
        name,
        hmac.compare_digest(got, want),
        want=short(want) or ABSENT,
        got=short(got) or ABSENT,
        fix=fix,
        aspect=Aspect.INSTANCE_IDENTITY,
        affirms=False,
    )


def runtime(claims: Claims, document: bytes | None) -> tuple[RuntimeData | None, str]:
    """The runtime data that the evidence proves, or the reason why there are none."""
    if document is None:
        return None, ABSENT
    if not hmac.compare_digest(runtime_data.report_data(document), claims.report_data):
        return None, UNPROVEN
    try:
        return RuntimeData.parse(document), ""
    except FormatError as error:
        return None, error.message


def runtime_rules(
    claims: Claims, binding: RuntimeBinding, proven: RuntimeData | None, why: str, nonce: bytes | None
) -> Iterator[Rule]:
    """Rules on the runtime data of a Kluis enclave."""
    yield _document(
        "runtime_data",
        proven is not None,
        want=f"the document of report data {short(claims.report_data)}",
        got=why or "it",
        fix="pass the runtime data that came with this evidence: --runtime",
    )
    yield _document(
        "purpose",
        proven is not None and proven.purpose is binding.purpose,
        want=binding.purpose,
        got=proven.purpose if proven else why,
        fix="evidence for one purpose is never good for another: ask for new evidence",
    )
    if claims.machine is not None or claims.anchor.startswith(EMULATED):
        yield _document(
            "runtime_image",
            proven is not None and hmac.compare_digest(proven.image_id, claims.measurement.value),
            want=short(claims.measurement.value),
            got=short(proven.image_id) if proven else why,
            fix="the runtime data speaks of another image: ask for new evidence",
        )
    if binding.nonce:
        known = nonce is not None and len(nonce) > 0
        yield Rule.of(
            "nonce",
            known and proven is not None and hmac.compare_digest(proven.nonce, nonce or b""),
            want=short(nonce) if nonce else NOT_GIVEN,
            got=short(proven.nonce) or ABSENT if proven else why,
            fix=REPLAY if known else GIVE_NONCE,
            stale=True,
            aspect=Aspect.INSTANCE_IDENTITY,
            affirms=False,
        )


def find_launch_configuration(
    claims: Claims, document: bytes | None
) -> tuple[LaunchConfiguration | None, str]:
    """The launch configuration that the evidence proves, or the reason why there is none."""
    if document is None:
        return None, ABSENT
    if claims.config_id is None or not hmac.compare_digest(launch.config_id(document), claims.config_id):
        return None, UNPROVEN
    try:
        return LaunchConfiguration.parse(document), ""
    except FormatError as error:
        return None, error.message


def launch_rules(
    claims: Claims, binding: RuntimeBinding, proven: LaunchConfiguration | None, why: str
) -> Iterator[Rule]:
    """Rules on the launch of a Kluis enclave."""
    yield _configuration_rule(
        "launch_configuration",
        proven is not None,
        want="the document of CONFIGID "
        + (short(claims.config_id) if claims.config_id else "(none: KSS is off)"),
        got=why or "it",
        fix="pass the launch configuration that came with this evidence: --launch",
    )
    lacks = set(proven.missing) - binding.missing if proven else set()
    accepted = f"missing = {format_list(lacks | binding.missing)}" if lacks else "missing"
    yield _configuration_rule(
        "missing",
        proven is not None and not lacks,
        want=f"only {either(binding.missing)}" if binding.missing else "none",
        got=(", ".join(sorted(lacks or proven.missing)) or ABSENT) if proven else why,
        fix=(
            "kluis doctor prints how to enable them on the enclave's machine; or accept that they are"
            f" missing: {accepted} in a policy's [launch], `lacks` in a room's plan, elsewhere"
            " --insecure-allow-missing"
        ),
    )
    yield _configuration_rule(
        "counter",
        proven is not None and proven.counter in binding.counters,
        want=either(binding.counters),
        got=proven.counter if proven else why,
        fix="give the platform a witness, or accept rollback across restarts in the policy",
    )
    grants = {grant for grant in proven.grants if grant.startswith("insecure_")} if proven else set()
    yield _configuration_rule(
        "insecure",
        proven is not None and grants <= binding.insecure,
        want=f"only {either(binding.insecure)}" if binding.insecure else "none",
        got=(", ".join(sorted(grants - binding.insecure)) or ABSENT) if proven else why,
        fix="build the image without the grant, or accept it in the policy",
    )
    if not claims.debug:
        level = claims.machine.level if claims.machine else claims.level
        yield _configuration_rule(
            "launch_level",
            proven is not None and proven.level == level,
            want=level,
            got=proven.level if proven else why,
            fix="the platform and its certificate disagree: create its root again",
        )


def _document(name: str, ok: bool, *, want: str, got: str, fix: str) -> Rule:
    return Rule.of(name, ok, want=want, got=got, fix=fix, aspect=Aspect.INSTANCE_IDENTITY, affirms=False)


def _configuration_rule(name: str, ok: bool, *, want: str, got: str, fix: str) -> Rule:
    return Rule.of(name, ok, want=want, got=got, fix=fix, aspect=Aspect.CONFIGURATION)
