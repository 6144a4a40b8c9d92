"""Write policies as TOML: every key, with a line that explains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from kluis.appraisal.policy.model import (
    Binding,
    ByImage,
    ByMachine,
    BySigner,
    ByTable,
    Identity,
    Policy,
    Release,
    RuntimeBinding,
)
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.values import format_list, quote, table
from kluis.appraisal.policy.wants import ANY, Any
from kluis.formats.encoding import jcs
from kluis.formats.encoding.jcs import Writable

V = TypeVar("V")


def dumps(policy: Policy) -> str:
    """Write a policy: every key, with a line that explains it.

    Uses version 1 if that can express the policy. Reference values of several releases follow the other
    tables.
    """
    releases = [*_releases(policy.identity)]
    if policy.machine is not None:
        releases += _releases(policy.machine.identity, "machine.")
    return _rules(policy) + "".join(f"\n{line}" for line in releases)


def dumps_machine(machine: ByMachine) -> str:
    """Write only the table ``[machine]``; :func:`loads_machine` reads it."""
    lines = [*_machine(machine), *_releases(machine.identity, "machine.")]
    return "".join(f"{line}\n" for line in lines)


def identity_bytes(policy: Policy) -> bytes:
    """The bytes whose hash is a policy's id: every rule that can change a verdict.

    If tables express the whole policy, these are the output of :func:`dumps`. Anything else follows as
    canonical JSON (RFC 8785) on a last line. This is the grouping of reference values by release, without
    names and order, and what a policy built by a program has beyond its version.
    """
    document = _rules(policy).encode()
    more: dict[str, Writable] = {}
    machine = policy.machine.identity if policy.machine else None
    for name, identity in (("", policy.identity), ("machine.", machine)):
        if isinstance(identity, ByTable):
            more |= {
                f"{name}releases.{tee}": sorted({_release(each) for each in releases})
                for tee, releases in identity.releases.items()
                if releases
            }
    if not isinstance(policy.identity, ByTable):
        more |= {"denylists": True} if policy.denylists else {}
        more |= {} if isinstance(policy.min_tcb_date, Any) else {"min_tcb_date": str(policy.min_tcb_date)}
    around = policy.machine.max_collateral_age if policy.machine else ANY
    for name, age, unit in (
        ("machine.max_collateral_age", around, timedelta(days=1)),
        ("max_collateral_age", policy.max_collateral_age, timedelta(days=1)),
        ("max_evidence_age", policy.max_evidence_age, timedelta(seconds=1)),
    ):
        if not isinstance(age, Any) and age % unit:
            more[name] = age // timedelta(microseconds=1)
    return document + jcs.dumps(more) if more else document


def _release(release: Release) -> str:
    return table(release.wants, lambda want: want.toml())


def _rules(policy: Policy) -> str:
    return "\n".join(_lines(policy)) + "\n"


def _releases(identity: Identity, within: str = "") -> Iterator[str]:
    by_tee = identity.releases if isinstance(identity, ByTable) else {}
    for tee, releases in sorted(by_tee.items()):
        for index, release in enumerate(releases):
            yield f"[[{within}releases.{tee}]]" + ("" if index else "  # values that belong together")
            yield f"name = {quote(release.name)}"
            for key, want in sorted(release.wants.items()):
                yield f"{key} = {want.toml()}"
            yield ""


def _lines(policy: Policy) -> Iterator[str]:
    whole = isinstance(policy.identity, ByTable)
    yield f"version = {2 if whole else 1}"
    yield from (
        "",
        "[accept]",
        f"protection = {format_list(policy.protection)}  # who may have made the keys",
        f"debug = {_flag(policy.debug)}  # the host of a debug TEE can read it",
    )
    if whole:
        yield f"denylists = {_flag(policy.denylists)}  # refuse platforms known to be broken, by a dated list"
    yield from (
        f"emulated_roots = {format_list(policy.emulated_roots)}  # files of roots trusted in addition to"
        " the vendors'",
        "",
        "[freshness]",
        f"nonce = {_flag(policy.binding.nonce)}  # the evidence must hold the nonce that you made",
        f"max_collateral_age_days = {_or_any(policy.max_collateral_age, lambda age: age.days)}",
        f"max_evidence_age_seconds = {int(policy.max_evidence_age.total_seconds())}"
        "  # from verification to appraisal",
        "",
        "[tcb]  # accepted statuses and advisories of the platform",
        f"statuses = {format_list(policy.tcb_statuses)}",
        f"advisories = {_or_any(policy.advisories, format_list)}  # accepted where it is not UpToDate",
        f"min_evaluation = {_or_any(policy.min_evaluation, str)}  # of the collateral",
    )
    if whole:
        day = _or_any(policy.min_tcb_date, lambda date: f'"{date.isoformat()}"')
        yield f"min_tcb_date = {day}  # of the level that the platform has reached"
    yield from ("", *_identity(policy))
    if policy.machine is not None:
        yield from ("", *_machine(policy.machine))
    yield from ("", "[binding]", *_binding(policy.binding))


def _identity(policy: Policy) -> Iterable[str]:
    match policy.identity:
        case ByImage(image_ids=image_ids):
            yield "[identity]  # which code"
            yield f"image_ids = {format_list(v.hex() for v in image_ids)}"
        case BySigner() as by:
            yield "[identity]  # which code"
            yield f"signers = {format_list(v.hex() for v in by.signers)}"
            yield f"product_id = {by.product_id}"
            yield f"min_svn = {by.min_svn}"
        case by_table:
            yield from _tables(by_table)


def _tables(identity: ByTable, within: str = "") -> Iterator[str]:
    for index, (tee, wants) in enumerate(sorted(identity.tables.items())):
        yield from ("",) * bool(index)
        yield f"[{within}{tee}]"
        for field in TABLES[tee]:
            yield f"{field.key} = {wants[field.key].toml()}  # {field.about}"


def _machine(machine: ByMachine) -> Iterator[str]:
    yield from (
        "[machine]  # around the enclave: its TEE endorses the root of the platform inside",
        f"any_guest = {_flag(machine.any_guest)}  # whether its operator may choose the kernel, and what runs"
        " next to the enclave",
        f"only = {_or_any(machine.only, lambda ids: format_list(each.hex() for each in ids))}"
        "  # image ids of machines that run one image",
        f"guest_releases = {_or_any(machine.guest_releases, format_list)}  # as the guest states its release",
        f"levels = {format_list(machine.levels)}  # of the platform inside",
        f"missing = {format_list(machine.missing)}  # protections that the machine may do without",
        f"max_collateral_age_days = {_or_any(machine.max_collateral_age, lambda age: age.days)}"
        "  # of the machine's evidence",
        "",
        *_tables(machine.identity, "machine."),
    )


def _binding(binding: Binding) -> Iterable[str]:
    if isinstance(binding, RuntimeBinding):
        yield from (
            f'purpose = "{binding.purpose}"  # what the evidence was made for',
            "",
            "[launch]  # how it was started",
            f"missing = {format_list(binding.missing)}  # protections it may have done without",
            f"counters = {format_list(binding.counters)}  # who may witness its counters",
            f"insecure = {format_list(binding.insecure)}  # insecure_* grants it may have",
        )
        return
    data = binding.report_data
    text = data.hex() if isinstance(data, bytes) else str(data)
    yield f'report_data = "{text}"  # hex; "given" with --report-data; "nonce", zeros after it; or "any"'


def _or_any(value: V | Any, write: Callable[[V], object]) -> object:
    return value.toml() if isinstance(value, Any) else write(value)


def _flag(value: bool) -> str:
    return "true" if value else "false"
