"""Parse ``plan.toml``, one party's proposal for a room, and draft the agreement from it.

::

    expires_days = 30
    k_min = 10
    max_runs = 3

    [code]
    protection = ["process"]          # levels by name; nothing else is accepted

    [[analysis]]
    kind = "sql"                      # or "logistic"
    id = "cells"
    question = "Who dies within five years, by sex and age?"
    inputs = ["people", "values"]
    recipients = ["clinic"]
    max_rows = 100
    query = "SELECT ..."
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Annotated, Final, Literal

import msgspec

from kluis.cleanroom import query
from kluis.cleanroom.agreement.agreement import (
    MAX_FRESH_DAYS,
    Agreement,
    Analysis,
    Code,
    Dataset,
    Measurement,
    Party,
    SqlAnalysis,
)
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.analyses import budget
from kluis.cleanroom.records.rooms import Room, RoomFile
from kluis.errors import FormatError, PolicyError, UnavailableError
from kluis.evidence.levels import ProtectionLevel
from kluis.formats.encoding import toml, typed
from kluis.frozen import frozen

EXAMPLE: Final = "examples/nafld/plan.toml is a whole one"

Lack = Literal["landlock", "mdwe", "secret-memory"]
"""A protection that the machine may do without, by the launcher's name."""


class CodeRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requirements on the platform. No default accepts debug, a missing protection, or software
    protection.
    """

    protection: Annotated[tuple[ProtectionLevel, ...], msgspec.Meta(min_length=1)]
    lacks: tuple[Lack, ...] = ()
    counter: tuple[Literal["unwitnessed", "witnessed"], ...] = ("unwitnessed", "witnessed")
    svn_min: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    fresh_days: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRESH_DAYS)] = 31


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan file."""

    expires_days: Annotated[int, msgspec.Meta(ge=1, le=36_500)]
    k_min: Annotated[int, msgspec.Meta(ge=3)]
    max_runs: Annotated[int, msgspec.Meta(ge=1)]
    code: CodeRules
    analysis: Annotated[tuple[Analysis, ...], msgspec.Meta(min_length=1)]


@frozen
class Image:
    """The identity of the code, measured from its file."""

    image_id: str
    mrsigner: str
    product_id: int


def read_plan(text: str, what: str = "plan") -> Plan:
    """Parse a plan, and check everything in it that does not need the room.

    Args:
        text: TOML.
        what: the file's name, for messages.

    Raises:
        FormatError: not TOML, or not a plan; names the table and the key.
    """
    document = toml.loads(text.encode(), what)
    if "allow" in document and "analysis" not in document:
        raise FormatError(
            f"{what}: want a plan of analyses, got the terms of a data set",
            hint=f"a plan has [[analysis]]; terms go to: kluis room seal ROOM FILE --terms {what}",
        )
    return typed.convert(document, Plan, what, EXAMPLE)


def with_lacks(plan: Plan, lacks: frozenset[str]) -> Plan:
    """The same plan, for a machine without some protections; the signers accept that."""
    code = msgspec.structs.replace(plan.code, lacks=tuple(sorted({*plan.code.lacks, *lacks})))
    return msgspec.structs.replace(plan, code=code)


def choose_inputs(room: Room, plan: Plan, is_known: Callable[[str], bool]) -> tuple[Dataset, ...]:
    """Find the newest version of each data set that a plan's analyses read; only these are in the agreement.

    Args:
        room: its folder.
        plan: names them.
        is_known: whether the proposer confirmed a party of this name, or is that party. A data set of an
            unknown party is used only if no known party has one of that name.

    Raises:
        UnavailableError: no party offers one.
        PolicyError: two parties offer one.
    """
    inputs = []
    for name in sorted({name for analysis in plan.analysis for name in analysis.inputs}):
        offers = room.offers(name)
        offers = tuple(each for each in offers if is_known(each.owner)) or offers
        if not offers:
            raise UnavailableError(
                f"data set {name}: nobody has sealed it in {room.path}",
                hint=f"kluis room seal {room.path} FILE --as PARTY --dataset {name} --terms TOML",
            )
        owners = sorted({each.owner for each in offers})
        if len(owners) > 1:
            raise PolicyError(
                f"data set {name}: want one owner, got {', '.join(owners)}",
                hint="confirm the party that you mean; if you know both, have one seal under another name",
                code="dataset",
            )
        inputs.append(max(offers, key=lambda each: each.version))
    return tuple(inputs)


def choose_parties(
    room: Room, plan: Plan, inputs: tuple[Dataset, ...], others: Iterable[str]
) -> tuple[Party, ...]:
    """The parties that a plan needs, by name: owners of its inputs, recipients, and further named ones.

    Other parties in the folder do not take part: anyone who can write there can add a party.

    Raises:
        KluisError: one has not joined.
    """
    recipients = {name for analysis in plan.analysis for name in analysis.recipients}
    return tuple(
        room.party(name) for name in sorted({*others, *recipients, *(each.owner for each in inputs)})
    )


def draft(
    room: RoomFile,
    plan: Plan,
    parties: tuple[Party, ...],
    datasets: tuple[Dataset, ...],
    image: Image,
    roots: tuple[str, ...],
    now: datetime.datetime,
    *,
    machine: str = "",
) -> Agreement:
    """Build the agreement from a plan.

    ``machine`` is the table ``[machine]`` of a policy, if the code is to run in a machine.

    Raises:
        FormatError: a value is out of bounds.
        PolicyError: it contradicts itself, or an analysis requests something that a data set's terms do not
            allow.
    """
    created = now.replace(microsecond=0)
    agreement = Agreement(
        kind="kluis-agreement/1",
        room=room.room,
        parent="",
        title=room.title,
        purpose=room.purpose,
        created=created,
        expires=created + datetime.timedelta(days=plan.expires_days),
        parties=parties,
        code=Code(
            image_id=image.image_id,
            measurements=(Measurement(tee="process", mrenclave=image.image_id, mrsigner=image.mrsigner),),
            product_id=image.product_id,
            svn_min=plan.code.svn_min,
            debug=False,
            protection=tuple(level.value for level in plan.code.protection),
            roots=roots,
            lacks=plan.code.lacks,
            counter=plan.code.counter,
            fresh_seconds=plan.code.fresh_days * 86_400,
            machine=machine,
        ),
        datasets=datasets,
        analyses=plan.analysis,
        k_min=plan.k_min,
        max_runs=plan.max_runs,
        any_owner_may_stop=True,
    )
    agreement = decode(encode(agreement), Agreement, "agreement")  # holds every bound that a reader will
    check_analyses(agreement)
    return agreement


def check_analyses(agreement: Agreement) -> None:
    """Check, without data, that every analysis requests only what its inputs allow.

    Raises:
        PolicyError: the agreement contradicts itself, or publishes more figures than its limit.
        QueryError: names the analysis' first violation; the enclave would refuse it, too.
    """
    agreement.check()
    budget.check(agreement)
    for analysis in agreement.analyses:
        inputs = tuple(agreement.dataset(name) for name in analysis.inputs)
        if isinstance(analysis, SqlAnalysis):
            query.read_groups(analysis.query, inputs)
        else:
            predictors = frozenset(name for arm in analysis.arms for name in arm.predictors)
            query.read_person_table(analysis.table, inputs, analysis.person, analysis.outcome, predictors)
