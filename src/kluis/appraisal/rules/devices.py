"""Rules on the devices of a machine: each meets the policy, and belongs to the processor's evidence."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from kluis.appraisal.aspects import Aspect
from kluis.appraisal.policy.model import Policy
from kluis.appraisal.policy.values import ABSENT
from kluis.appraisal.results.rule import Rule
from kluis.appraisal.rules import binding
from kluis.appraisal.rules.identity import identity_rules
from kluis.appraisal.rules.platform import platform_rules
from kluis.errors import FormatError
from kluis.evidence.model import Claims, Tee
from kluis.formats.encoding.brief import short
from kluis.formats.kluis.devices import Devices, NamedReport
from kluis.formats.kluis.runtime_data import Purpose

UNBOUND: Final = "the report of a device is judged by itself: nothing binds it to the processor of a machine"
_FIX: Final = "have software that the processor's TEE measured request the report, and state its nonces"


def device_rules(
    claims: Claims,
    devices: Sequence[Claims],
    policy: Policy,
    document: bytes | None,
    nonce: bytes | None,
    now: datetime,
) -> Iterator[Rule]:
    """The rules of each device, and of the document that binds all of them to the processor.

    Args:
        claims: of the processor.
        devices: claims of each device's report.
        policy: has a table for the devices.
        document: runtime data of purpose ``devices``, untrusted.
        nonce: of the relying party, which the document must have.
        now: aware.
    """
    named, why = _named_reports(claims, document, nonce)
    yield Rule.of(
        "devices",
        named is not None and len(named) == len(devices),
        want=f"a document that the processor's evidence binds, with {len(devices)} reports",
        got=why or f"one with {len(named or ())}",
        fix="give the reports of all devices that it names, and the document: --device, --runtime",
        aspect=Aspect.INSTANCE_IDENTITY,
        affirms=False,
    )
    left = list(named or ())
    for number, each in enumerate(devices, 1):
        rules = [*platform_rules(each, policy, now), *identity_rules(each, policy.identity)]
        for rule in (*rules, _binding_rule(_report_of(each), left, why)):
            yield dataclasses.replace(rule, name=f"device{number}_{rule.name}")


def _binding_rule(own: NamedReport | None, left: list[NamedReport], why: str) -> Rule:
    """Whether a report is one of those that are left; it is taken from them."""
    bound = own in left
    if own is not None and bound:
        left.remove(own)
    return Rule.of(
        "bound",
        bound,
        want="its nonces in that document",
        got=why or (f"nonces {short(own.nonce)} and {short(own.device_nonce)}" if own else ABSENT),
        fix=_FIX,
        aspect=Aspect.INSTANCE_IDENTITY,
        affirms=False,
    )


def _named_reports(
    claims: Claims, document: bytes | None, nonce: bytes | None
) -> tuple[tuple[NamedReport, ...] | None, str]:
    """The reports that the processor's evidence names, or the reason why there are none."""
    named, why = binding.runtime(claims, document)
    if named is None:
        return None, why
    if named.purpose is not Purpose.DEVICES:
        return None, f"one of purpose {named.purpose}"
    if not nonce or not hmac.compare_digest(named.nonce, nonce):
        return None, f"one over nonce {short(named.nonce) or ABSENT}"
    try:
        return Devices.parse(named.payload).reports, ""
    except FormatError as error:
        return None, error.message


def _report_of(claims: Claims) -> NamedReport | None:
    device_nonce = getattr(claims.vendor, "device_nonce", None)  # its class would load its verifier
    if claims.tee is not Tee.NVIDIA or claims.nonce is None or not isinstance(device_nonce, bytes):
        return None
    return NamedReport(claims.nonce, device_nonce)
