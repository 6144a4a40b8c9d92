"""Parse policies from TOML, strictly.

Version 2 is for any TEE:

    version = 2
    [accept]       protection = ["hardware-snp"]   debug = false   denylists = true   emulated_roots = []
    [freshness]    nonce = false   max_collateral_age_days = 30   max_evidence_age_seconds = 300
    [tcb]          statuses = ["NotJudged"]   advisories = []   min_evaluation = "any"   min_tcb_date = "any"
    [binding]      report_data = "<hex>", "given", "nonce" or "any"; or purpose = "cli" for a Kluis enclave
    [launch]       missing = []   counters = ["unwitnessed"]   insecure = []  (with a purpose)
    [snp]          the fields of its table; one table for each accepted TEE, at least one
    [machine]      any_guest = false   only = "any"   guest_releases = "any"   levels = ["process"]
                   missing = []   max_collateral_age_days = 366; only for an enclave in a machine
    [machine.snp]  the fields of that TEE's table, for the machine's evidence
    [[releases.snp]]   name = "4.2"   and the release's values for fields of that table that allow reference
                   values; evidence must match one release in full. Without releases there is no such rule

Version 1 is only for SGX, and has fewer keys; ``[machine]`` is the same:

    version = 1
    [accept]       protection   debug   emulated_roots
    [freshness]    as above
    [identity]     image_ids = ["<hex>"], or signers = ["<hex>"]  product_id = 7  min_svn = 3
    [tcb]          statuses   advisories   min_evaluation
    [binding]      purpose, or report_data = "<hex>" for a foreign enclave
    [launch]       as above

Every key must be present: an absent key has no default. ``"any"`` is explicit.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from kluis.appraisal.policy.fields import Field
from kluis.appraisal.policy.model import (
    GUESTS,
    PLATFORM_LEVELS,
    Binding,
    ByImage,
    ByMachine,
    BySigner,
    ByTable,
    Identity,
    Policy,
    Release,
    ReportDataBinding,
    RuntimeBinding,
    Session,
)
from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.toml_tables import Table, from_hex, parse
from kluis.appraisal.policy.wants import ANY, Any, OneOf
from kluis.errors import FormatError, UnsupportedError, UsageError
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import TcbStatus, Tee
from kluis.formats.kluis.runtime_data import Purpose

MAX_SIZE: Final = 256 * 1024
HINT: Final = "kluis policy init writes a complete policy"
MOST_DAYS: Final = 36500
MOST_SECONDS: Final = 3_153_600_000
MOST_EVALUATION: Final = 1 << 31


def loads(data: bytes) -> Policy:
    """Read a policy.

    Args:
        data: TOML in UTF-8, at most 256 KiB.

    Raises:
        FormatError: not TOML, a key missing, unknown, or of the wrong kind.
        UsageError: it accepts nothing, or contradicts itself.
    """
    if not isinstance(data, bytes):
        raise UsageError(f"policy: want bytes, got {type(data).__name__}", hint="read its file as bytes")
    top = parse(data, "policy", most=MAX_SIZE, hint=HINT)
    if (version := top.take("version", int)) not in (1, 2):
        raise UnsupportedError(f"policy.version: want 1 or 2, got {version}", code="bad_version")
    accept, freshness, tcb = top.table("accept"), top.table("freshness"), top.table("tcb")
    bound = top.table("binding")
    nonce = freshness.take("nonce", bool)
    days = _age(freshness, version)
    policy = Policy(
        protection=accept.names("protection", ProtectionLevel),
        debug=accept.take("debug", bool),
        denylists=accept.take("denylists", bool) if version > 1 else False,
        tcb_statuses=tcb.names("statuses", TcbStatus),
        advisories=ANY if version > 1 and tcb.any("advisories") else tcb.texts("advisories"),
        min_evaluation=_evaluation(tcb, version),
        min_tcb_date=_date(tcb) if version > 1 else ANY,
        max_collateral_age=days,
        max_evidence_age=timedelta(seconds=freshness.number("max_evidence_age_seconds", MOST_SECONDS)),
        binding=_binding(top, bound, nonce=nonce, version=version),
        emulated_roots=tuple(sorted(accept.texts("emulated_roots"))),
        identity=_tables(top, tuple(TABLES)) if version > 1 else _identity(top.table("identity")),
        machine=_machine(top.table("machine")) if "machine" in top else None,
    )
    for table in (accept, freshness, tcb, bound, top):
        table.end()
    return policy


def loads_machine(data: bytes) -> ByMachine:
    """Read only a table ``[machine]``, as :func:`dumps_machine` writes it into a document of another kind.

    Raises:
        FormatError: not TOML, a key missing, unknown, or of the wrong kind.
        UsageError: it accepts nothing, contradicts itself, or needs reference values.
    """
    top = parse(data, "machine", most=MAX_SIZE, hint=HINT)
    machine = _machine(top.table("machine"))
    top.end()
    if machine.identity.referenced:
        raise UsageError("machine: want values, got reference values", hint="kluis appraise --reference")
    return machine


def _age(freshness: Table, version: int) -> timedelta | Any:
    key = "max_collateral_age_days"
    if version > 1 and freshness.any(key):
        return ANY
    return timedelta(days=freshness.number(key, MOST_DAYS))


def _evaluation(tcb: Table, version: int) -> int | Any:
    return ANY if version > 1 and tcb.any("min_evaluation") else tcb.number("min_evaluation", MOST_EVALUATION)


def _date(tcb: Table) -> datetime.date | Any:
    if tcb.any("min_tcb_date"):
        return ANY
    text = tcb.take("min_tcb_date", str)
    try:
        date = datetime.date.fromisoformat(text)
    except ValueError:
        date = None
    if date is None or date.isoformat() != text:
        raise FormatError(
            f'{tcb.name}.min_tcb_date: want a day as "2026-01-31", or "any", got {text[:32]!a}',
            hint=HINT,
            code="bad_encoding",
        )
    return date


def _machine(table: Table) -> ByMachine:
    any_age, age = table.any("max_collateral_age_days"), "max_collateral_age_days"
    machine = ByMachine(
        any_guest=table.take("any_guest", bool),
        only=ANY if table.any("only") else table.hexes("only"),
        guest_releases=ANY if table.any("guest_releases") else table.texts("guest_releases"),
        levels=frozenset(map(ProtectionLevel, table.known_texts("levels", PLATFORM_LEVELS))),
        missing=table.texts("missing"),
        max_collateral_age=ANY if any_age else timedelta(days=table.number(age, MOST_DAYS)),
        identity=_tables(table, tuple(GUESTS)),
    )
    table.end()
    return machine


def _tables(top: Table, tees: Sequence[Tee]) -> ByTable:
    tables = {}
    for tee in tees:
        if tee in top:
            table = top.table(tee)
            tables[tee] = {field.key: field.form.read(table, field.key) for field in TABLES[tee]}
            table.end()
    releases = _releases(top, tees)
    if not tables:
        got = f", got {', '.join(map(ascii, top.keys))}" if top.keys else ""
        raise FormatError(
            f"{top.name}: has no table of a TEE; want at least one of {', '.join(tees)}{got}",
            hint=HINT,
            code="policy_incomplete",
        )
    return ByTable(tables=tables, releases=releases)


def _releases(top: Table, tees: Sequence[Tee]) -> dict[Tee, tuple[Release, ...]]:
    """Read the values of each release, by TEE; no release is required if the policy lists none."""
    if "releases" not in top:
        return {}
    releases = top.table("releases")
    if not releases.keys:
        raise FormatError(f"{releases.name}: want releases of at least one TEE, got none", code="bad_length")
    by_tee: dict[Tee, tuple[Release, ...]] = {}
    for name in releases.keys:
        if name not in set(tees):
            raise FormatError(f"{releases.name}.{name}: want one of {', '.join(tees)}", code="bad_type")
        by_tee[Tee(name)] = tuple(_release(each, TABLES[Tee(name)]) for each in releases.tables(name))
    return by_tee


def _release(table: Table, fields: Sequence[Field]) -> Release:
    name, wants = table.take("name", str), dict[str, OneOf | Registers]()
    for field in fields:
        if field.key in table and field.form.referenced:
            want = field.form.read(table, field.key)
            if not isinstance(want, OneOf | Registers):
                raise FormatError(
                    f"{table.name}.{field.key}: want values of the release, got {want.toml()}",
                    code="bad_type",
                )
            wants[field.key] = want
    table.end()
    if not wants:
        raise FormatError(f"{table.name}: want a value of the release, got only its name", code="bad_length")
    return Release(name=name, wants=wants)


def _identity(table: Table) -> Identity:
    identity: Identity
    if "image_ids" in table:
        identity = ByImage(image_ids=table.hexes("image_ids"))
    elif "signers" in table:
        identity = BySigner(
            signers=table.hexes("signers"),
            product_id=table.number("product_id", 0xFFFF),
            min_svn=table.number("min_svn", 0xFFFF),
        )
    else:
        raise FormatError(
            f"{table.name}: states neither image_ids nor signers", hint=HINT, code="policy_incomplete"
        )
    table.end()
    return identity


def _binding(top: Table, table: Table, *, nonce: bool, version: int) -> Binding:
    if "report_data" in table:
        return _report_data(table, nonce=nonce, version=version)
    purpose = table.take("purpose", str)
    if purpose not in set(Purpose):
        raise FormatError(
            f"policy.binding.purpose: want one of {', '.join(Purpose)}, got {purpose!a}", code="bad_type"
        )
    launch = top.table("launch")
    binding = RuntimeBinding(
        purpose=Purpose(purpose),
        nonce=nonce,
        missing=launch.texts("missing"),
        counters=launch.texts("counters"),
        insecure=launch.texts("insecure"),
    )
    launch.end()
    return binding


def _report_data(table: Table, *, nonce: bool, version: int) -> ReportDataBinding:
    if version > 1 and table.any("report_data"):
        return ReportDataBinding(report_data=ANY, nonce=nonce)
    text = table.take("report_data", str)
    if version > 1 and text in set(Session):
        return ReportDataBinding(report_data=Session(text), nonce=nonce)
    words = ", ".join(f'"{word}"' for word in Session)
    want = f'hex, {words} or "any"' if version > 1 else "hex"
    data = from_hex(text, "policy.binding.report_data", want=want)
    if version == 1 and nonce:
        raise UsageError(
            "policy.freshness.nonce: a foreign enclave's report data is its freshness; want false"
        )
    if version == 1 and len(data) != 64:
        raise UsageError(f"policy.binding.report_data: want 64 bytes, got {len(data)}")
    return ReportDataBinding(report_data=data, nonce=nonce)
