"""Policies as TOML: read strictly, and written whole.

    version = 1
    [accept]       protection = ["process"]   debug = false   emulated_roots = ["root.pem"]
    [freshness]    nonce = true   max_collateral_age_days = 30   max_evidence_age_seconds = 300
    [identity]     image_ids = ["<hex>"], or signers = ["<hex>"]  product_id = 7  min_svn = 3
    [tcb]          statuses = ["UpToDate"]   advisories = []   min_evaluation = 0
    [binding]      purpose = "cli", or report_data = "<hex>" for a foreign enclave
    [launch]       missing = []   counters = ["unwitnessed"]   insecure = []  (with a purpose)

Every key must stand there: what a policy does not say is not assumed.
"""

from __future__ import annotations

import enum
import json
import tomllib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, TypeVar

from kluis.appraisal.policy import (
    Binding,
    ByImage,
    BySigner,
    Identity,
    Policy,
    ReportDataBinding,
    RuntimeBinding,
)
from kluis.errors import FormatError, UnsupportedError, UsageError
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import TcbStatus
from kluis.formats.runtime_data import Purpose

MAX_SIZE: Final = 256 * 1024
E_co = TypeVar("E_co", bound=enum.StrEnum)
HINT: Final = "kluis policy init writes a policy that says everything"


def loads(data: bytes) -> Policy:
    """Read a policy.

    Args:
        data: TOML in UTF-8, at most 256 KiB.

    Raises:
        FormatError: not TOML, a key missing, unknown, or of the wrong kind.
        UsageError: it accepts nothing, or contradicts itself.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(f"policy: is {len(data)} bytes, must be at most {MAX_SIZE}", code="too_large")
    try:
        value = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"policy: is not TOML: {error}", code="bad_encoding") from None
    top = _Table(value, "policy")
    if (version := top.take("version", int)) != 1:
        raise UnsupportedError(f"policy.version: want 1, got {version}", code="bad_version")
    accept, freshness, tcb = top.table("accept"), top.table("freshness"), top.table("tcb")
    identity, bound = _identity(top.table("identity")), top.table("binding")
    nonce = freshness.take("nonce", bool)
    policy = Policy(
        protection=accept.names("protection", ProtectionLevel),
        debug=accept.take("debug", bool),
        identity=identity,
        tcb_statuses=tcb.names("statuses", TcbStatus),
        advisories=tcb.texts("advisories"),
        min_evaluation=tcb.number("min_evaluation", 1 << 31),
        max_collateral_age=timedelta(days=freshness.number("max_collateral_age_days", 36500)),
        max_evidence_age=timedelta(seconds=freshness.number("max_evidence_age_seconds", 3_153_600_000)),
        binding=_binding(top, bound, nonce=nonce),
        emulated_roots=tuple(sorted(accept.texts("emulated_roots"))),
    )
    for table in (accept, freshness, tcb, bound, top):
        table.end()
    return policy


def dumps(policy: Policy) -> str:
    """Write a policy, every key with a line on what it means."""
    if isinstance(policy.identity, ByImage):
        identity = [f"image_ids = {_list(v.hex() for v in policy.identity.image_ids)}"]
    else:
        identity = [
            f"signers = {_list(v.hex() for v in policy.identity.signers)}",
            f"product_id = {policy.identity.product_id}",
            f"min_svn = {policy.identity.min_svn}",
        ]
    binding = policy.binding
    if isinstance(binding, RuntimeBinding):
        nonce = binding.nonce
        bound = [
            f'purpose = "{binding.purpose}"  # what the evidence was made for',
            "",
            "[launch]  # how it was started",
            f"missing = {_list(binding.missing)}  # protections it may have done without",
            f"counters = {_list(binding.counters)}  # who may witness its counters",
            f"insecure = {_list(binding.insecure)}  # insecure_* grants it may have",
        ]
    else:
        nonce = False
        bound = [f'report_data = "{binding.report_data.hex()}"']
    days, seconds = policy.max_collateral_age.days, int(policy.max_evidence_age.total_seconds())
    lines = [
        "version = 1",
        "",
        "[accept]",
        f"protection = {_list(policy.protection)}  # who may have made the keys",
        f"debug = {_flag(policy.debug)}  # a debug enclave is open to its host",
        f"emulated_roots = {_list(policy.emulated_roots)}  # files of roots trusted beside the makers'",
        "",
        "[freshness]",
        f"nonce = {_flag(nonce)}  # the evidence must hold the nonce that you made",
        f"max_collateral_age_days = {days}",
        f"max_evidence_age_seconds = {seconds}  # from verification to appraisal",
        "",
        "[identity]  # which code",
        *identity,
        "",
        "[tcb]  # what the platform's maker may think of it",
        f"statuses = {_list(policy.tcb_statuses)}",
        f"advisories = {_list(policy.advisories)}  # accepted where it is not UpToDate",
        f"min_evaluation = {policy.min_evaluation}  # of the collateral",
        "",
        "[binding]",
        *bound,
    ]
    return "\n".join(lines) + "\n"


class _Table:
    """A TOML table read key by key; what is left over at the end is refused."""

    def __init__(self, value: dict[str, Any], name: str) -> None:
        self._left = dict(value)
        self.name = name

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str, kind: type[Any]) -> Any:
        if key not in self._left:
            raise FormatError(f"{self.name}.{key}: is not stated", hint=HINT, code="policy_incomplete")
        value = self._left.pop(key)
        if type(value) is not kind:
            raise FormatError(
                f"{self.name}.{key}: want {_KINDS[kind]}, got {_KINDS.get(type(value), 'another kind')}",
                code="bad_type",
            )
        return value

    def table(self, key: str) -> _Table:
        return _Table(self.take(key, dict), f"{self.name}.{key}")

    def number(self, key: str, most: int) -> int:
        value: int = self.take(key, int)
        if not 0 <= value <= most:
            raise FormatError(f"{self.name}.{key}: want 0..{most}, got {value}", code="bad_encoding")
        return value

    def texts(self, key: str) -> frozenset[str]:
        values = self.take(key, list)
        if not all(isinstance(value, str) for value in values):
            raise FormatError(f"{self.name}.{key}: want a list of text", code="bad_type")
        return frozenset(values)

    def names(self, key: str, kind: type[E_co]) -> frozenset[E_co]:
        values = self.texts(key)
        if unknown := sorted(values - set(kind)):
            raise FormatError(
                f"{self.name}.{key}: want some of {', '.join(kind)}, got {unknown[0]!a}", code="bad_type"
            )
        return frozenset(kind(value) for value in values)

    def hexes(self, key: str) -> frozenset[bytes]:
        return frozenset(_hex(value, f"{self.name}.{key}") for value in self.texts(key))

    def end(self) -> None:
        if self._left:
            raise FormatError(f"{self.name}.{min(self._left)}: is not a key of a policy", code="bad_type")


_KINDS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "an integer",
    str: "text",
    list: "a list",
    dict: "a table",
    float: "a float",
}


def _identity(table: _Table) -> Identity:
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


def _binding(top: _Table, table: _Table, *, nonce: bool) -> Binding:
    if "report_data" in table:
        if nonce:
            raise UsageError(
                "policy.freshness.nonce: a foreign enclave's report data is its freshness; want false"
            )
        return ReportDataBinding(
            report_data=_hex(table.take("report_data", str), "policy.binding.report_data")
        )
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


def _hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise FormatError(f"{what}: is not hex", code="bad_encoding") from None


def _list(values: Iterable[str]) -> str:
    # JSON's escapes are all TOML's; text outside ASCII stands as it is.
    return "[" + ", ".join(json.dumps(str(value), ensure_ascii=False) for value in sorted(values)) + "]"


def _flag(value: bool) -> str:
    return "true" if value else "false"
