"""``kluis policy``: write a first policy, for a Kluis enclave or from any evidence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from kluis import appraisal
from kluis.appraisal.draft import draft
from kluis.appraisal.policy.wants import Required
from kluis.cli import completion, render
from kluis.cli.evidence import files, rules, text
from kluis.cli.evidence import roots as root_files
from kluis.cli.evidence.image_ids import measure as image_ids_of
from kluis.cli.evidence.verify import (
    CollateralFiles,
    EventLog,
    Evidence,
    Parts,
    RootLevel,
    Roots,
    verify_evidence,
)
from kluis.cli.parameters import Now, flag, option
from kluis.errors import UsageError, unknown
from kluis.evidence import Claims, ProtectionLevel, TcbStatus
from kluis.evidence.eventlog.judgement import LogClaims
from kluis.evidence.eventlog.replay import Registers
from kluis.formats.kluis import launch as launching
from kluis.formats.kluis.runtime_data import Purpose


def init(
    output: Annotated[Path, option("Where to write the policy.", "FILE", "-o", "--output")],
    evidence: Evidence = None,
    image: Annotated[list[Path] | None, option("An image to accept; may be repeated.", "FILE")] = None,
    image_id: Annotated[list[str] | None, option("Or a measurement (hex); may be repeated.", "HEX")] = None,
    signer: Annotated[
        list[str] | None, option("Or a signer to accept (hex); may be repeated.", "HEX")
    ] = None,
    product_id: Annotated[int, option("With --signer: the product.", "N")] = 0,
    min_svn: Annotated[int, option("With --signer: the minimum SVN.", "N")] = 0,
    protection: Annotated[
        list[str] | None,
        option("A level to accept; by default hardware-sgx.", "LEVEL", complete=completion.levels),
    ] = None,
    purpose: Annotated[
        str, option("What the evidence is for.", "PURPOSE", complete=completion.words(Purpose))
    ] = Purpose.CLI.value,
    missing: Annotated[
        list[str] | None,
        option(
            "A protection that may be missing, as named by kluis doctor; may be repeated.",
            "NAME",
            complete=completion.protections,
        ),
    ] = None,
    root: Roots = None,
    root_level: RootLevel = None,
    part: Parts = None,
    collateral: CollateralFiles = None,
    event_log: EventLog = None,
    this_machine: Annotated[
        bool, flag("With evidence: accept only the machine that it came from.", "--this-machine")
    ] = False,
    now: Now = None,
) -> None:
    """Write a strict policy with every required key.

    From evidence, which is verified first; the policy then requires each of its values. Or for a Kluis
    enclave, from an image, a measurement or a signer.

    For example: kluis policy init evidence.bin -o policy.toml --root root.pem
    """
    kinds = [bool(evidence or part), bool(image or image_id), bool(signer)]
    if sum(kinds) != 1:
        raise UsageError(
            f"policy init: want evidence, or --image, --image-id or --signer, of one kind, got {sum(kinds)}",
            hint=None if any(kinds) else "kluis policy init EVIDENCE -o FILE drafts one from all its values",
        )
    for name, what, idle in (
        ("--event-log", "the evidence whose registers it explains", event_log is not None and not kinds[0]),
        ("--collateral", "the evidence that it endorses", bool(collateral) and not kinds[0]),
        ("--this-machine", "the evidence of that machine", this_machine and not kinds[0]),
        ("--root-level", "the evidence under that root", root_level is not None and not kinds[0]),
        ("--product-id", "the --signer whose number it is", bool(product_id) and not kinds[2]),
        ("--min-svn", "the --signer whose versions it is one of", bool(min_svn) and not kinds[2]),
    ):
        if idle:
            raise UsageError(f"{name}: want {what}, got none")
    if output.is_symlink() or output.exists():
        raise UsageError(f"{output}: exists already", hint="name another file, or remove it first")
    beside = _beside(output, root or ())
    if kinds[0]:
        if protection or missing:
            raise UsageError("policy init: the evidence has its level: want no --protection, no --missing")
        trusted = root_files.anchors(root or (), root_level)
        proven, log, _, packed = verify_evidence(
            evidence, part or (), event_log, trusted, collateral or (), files.time(now)
        )
        made = draft(
            proven,
            this_machine=this_machine,
            emulated_roots=beside if root_level is None else (),
            runtime_data=files.optional(None, packed, evidence, "runtime"),
            launch_configuration=files.optional(None, packed, evidence, "launch"),
        )
        render.note("kluis: read the policy before you use it: it wants every value that this evidence has")
        for line in (*_behind(proven.value), *_explain(log, made)):
            render.note(line)
    else:
        made = _for_enclave(
            _identity(image or (), image_id or (), signer or (), product_id, min_svn),
            protection or [ProtectionLevel.HARDWARE_SGX.value],
            _purpose(purpose),
            frozenset(missing or ()),
            beside,
        )
    render.save(output, appraisal.dumps(made).encode(), must_be_new=True)
    render.out({"policy": str(output)}, f"written: {output}")


def _behind(claims: Claims) -> Iterator[str]:
    """What a draft permits because its platform is not up to date."""
    tcb = claims.tcb
    if tcb.status in (TcbStatus.UP_TO_DATE, TcbStatus.NOT_JUDGED):
        return
    count = len(tcb.advisories)
    advised = f", with {count} {'advisory' if count == 1 else 'advisories'}" if count else ""
    yield f"kluis: this platform is {tcb.status}, and the policy accepts that{advised}"
    yield 'kluis: statuses = ["UpToDate"] in it accepts only up-to-date platforms'


def _explain(log: LogClaims | None, made: appraisal.Policy) -> Iterator[str]:
    """What a log explains, and whether a rule of the draft needs one."""
    yield from text.log(log)
    if log is None:
        return
    tables = made.identity.tables.values() if isinstance(made.identity, appraisal.ByTable) else ()
    if any(table.get("event_log_required") == Required(True) for table in tables):
        yield "kluis: the policy wants such a log with the evidence: kluis appraise --event-log FILE"
    elif log.registers is Registers.RTMR:
        yield "kluis: no rule wants a log of RTMRs: the policy wants their values"
    elif log.tells_of_firmware:
        yield "kluis: no rule requires this log: the evidence was in a wrapper, which has no log"
    else:
        yield "kluis: no rule wants this log: no PCR of firmware's (0 to 7) is quoted"


def _beside(policy: Path, roots: Sequence[Path]) -> tuple[str, ...]:
    """The roots as paths relative to the policy's folder, where an appraisal will look for them."""
    return tuple(sorted(os.path.relpath(root, policy.parent) for root in roots))


def _identity(
    images: Sequence[Path], image_ids: Sequence[str], signers: Sequence[str], product_id: int, min_svn: int
) -> appraisal.ByImage | appraisal.BySigner:
    if not signers:
        measured = {files.from_hex(text, "--image-id") for text in image_ids} | set(image_ids_of(images))
        return appraisal.ByImage(image_ids=frozenset(measured))
    return appraisal.BySigner(
        signers=frozenset(files.from_hex(text, "--signer") for text in signers),
        product_id=product_id,
        min_svn=min_svn,
    )


def _for_enclave(
    identity: appraisal.ByImage | appraisal.BySigner,
    levels: list[str],
    purpose: Purpose,
    missing: frozenset[str],
    roots: tuple[str, ...],
) -> appraisal.Policy:
    known = [level.value for level in ProtectionLevel if level is not ProtectionLevel.NONE]
    for level in levels:
        if level not in known:
            raise unknown("--protection", level, known)
    return appraisal.strict(
        identity,
        protection=frozenset(map(ProtectionLevel, levels)),
        purpose=purpose,
        counters=frozenset({launching.UNWITNESSED}),
        missing=missing,
        emulated_roots=roots,
    )


def _purpose(value: str) -> Purpose:
    if value not in set(Purpose):
        raise unknown("--purpose", value, Purpose)
    return Purpose(value)


COMMANDS = (init, *rules.COMMANDS)
