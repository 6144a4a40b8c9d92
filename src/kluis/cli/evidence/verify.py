"""``kluis verify`` and ``appraise``: decide whether evidence is authentic and meets a policy.

The documents of a piece of evidence are in its evidence file, or else in its folder:
``quote.bin.runtime.json``, ``quote.bin.launch.json`` and ``quote.bin.collateral.json``. A root is in neither:
an emulated one is trusted only by ``kluis trust add``, or if ``--root`` or the policy names its file.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from kluis.cli import completion, render
from kluis.cli.evidence import files, roots, text
from kluis.cli.parameters import Now, argument, option
from kluis.errors import KluisError, UsageError
from kluis.evidence import Claims, ProtectionLevel, TrustAnchors, Verified
from kluis.views import values

if TYPE_CHECKING:
    from kluis.appraisal import AttestationResult, Policy
    from kluis.evidence.eventlog.judgement import LogClaims
    from kluis.formats.kluis.evidence_file import EvidenceFile

EAR_FORMS: Final = ("jwt", "cwt")

Evidence = Annotated[
    Path | None, argument("The evidence, a folder of configfs-tsm, or - for stdin: raw, hex, base64 or PEM.")
]
Parts = Annotated[
    list[str] | None,
    option(
        "Evidence in several files: NAME=FILE, such as tpm_quote=quote.bin; may be repeated.",
        "NAME=FILE",
        "--part",
    ),
]
Roots = Annotated[
    list[Path] | None,
    option(
        "Root to trust instead of the shipped ones and the trust store's (PEM); may be repeated.",
        "PEM",
        "--root",
    ),
]
RootLevel = Annotated[
    str | None,
    option(
        "The level, such as vtpm, of a root that is neither a vendor's nor emulated.",
        "LEVEL",
        "--root-level",
        complete=completion.words(ProtectionLevel),
    ),
]
CollateralFiles = Annotated[
    list[Path] | None,
    option("Collateral: a bundle, or the vendor's files; may be repeated.", "FILE", "--collateral"),
]
EventLog = Annotated[Path | None, option("The event log behind the quoted registers.", "FILE", "--event-log")]


def verify(
    evidence: Evidence = None,
    part: Parts = None,
    root: Roots = None,
    root_level: RootLevel = None,
    collateral: CollateralFiles = None,
    event_log: EventLog = None,
    now: Now = None,
) -> None:
    """Check that evidence is authentic. To check it against a policy, use kluis appraise.

    For example: kluis verify evidence.bin --root root.pem
    """
    when = files.time(now)
    trusted = roots.anchors(root or (), root_level)
    proven, log, digests, _ = verify_evidence(
        evidence, part or (), event_log, trusted, collateral or (), when
    )
    claims = proven.value
    lines = [*text.authentic(claims), *text.log(log), "", "authentic, and not appraised", *text.level(claims)]
    value = {
        "authentic": True,
        "appraised": False,
        "claims": values.claims(claims),
        **values.worth(claims),
        "sha256": digests,
        "event_log": values.plain(log),
    }
    render.out(value, render.fold("\n".join(lines)))


class Checked(NamedTuple):
    """Evidence that is authentic.

    Attributes:
        proven: its claims.
        log: what its event log explains, if one was given.
        sha256: in hex, of the evidence and the log, by their names, for a record of the verdict.
        file: the evidence file that it came in; None for other evidence.
    """

    proven: Verified[Claims]
    log: LogClaims | None
    sha256: dict[str, str]
    file: EvidenceFile | None


def verify_evidence(
    evidence: Path | None,
    parts: Sequence[str],
    event_log: Path | None,
    trusted: TrustAnchors,
    collateral: Sequence[Path],
    when: datetime,
) -> Checked:
    """Verify evidence, and check a log against it if one is given.

    Raises:
        KluisError: as in :mod:`kluis.cli.evidence.files`.
    """
    data = files.evidence(evidence, parts)
    digests, packed = files.digests(data, parts), files.parse_packed(data)
    log = packed.event_log if packed is not None else None
    if event_log is not None:
        log = files.decode_armor(files.read_filled(event_log), str(event_log))
        data = files.with_event_log(data, log)
        digests["event_log"] = sha256(log).hexdigest()
    proven = files.verify_with_collateral(data, trusted, collateral, evidence, when)
    return Checked(proven, files.hold_log(proven.value, log) if log is not None else None, digests, packed)


def judge_evidence(
    checked: Checked,
    policy: Policy,
    evidence: Path | None,
    *,
    nonce: bytes | None,
    report_data: bytes | None,
    when: datetime,
    runtime: Path | None = None,
    launch: Path | None = None,
    devices: Sequence[Verified[Claims]] = (),
) -> AttestationResult:
    """Appraise evidence that is authentic, with its documents.

    Args:
        checked: from :func:`verify_evidence`.
        policy: with its reference values.
        evidence: its path, next to which loose documents are.
        nonce: the relying party's.
        report_data: the relying party's.
        when: the time to judge at.
        runtime: the runtime data, instead of the evidence file's.
        launch: the launch configuration, instead of the evidence file's.
        devices: verified evidence of the machine's devices.
    """
    from kluis.appraisal import appraise as appraised  # only kluis verify goes without

    return appraised(
        checked.proven,
        policy,
        nonce=nonce,
        report_data=report_data,
        runtime_data=files.optional(runtime, checked.file, evidence, "runtime"),
        launch_configuration=files.optional(launch, checked.file, evidence, "launch"),
        devices=devices,
        now=when,
    )


def appraise(
    evidence: Evidence = None,
    policy: Annotated[Path | None, option("The policy (TOML).", "FILE")] = None,
    nonce: Annotated[str | None, option("The nonce that you generated (hex).", "HEX")] = None,
    report_data: Annotated[
        str | None, option('The data that you bound, if the policy contains "given" (hex).', "HEX")
    ] = None,
    part: Parts = None,
    root: Roots = None,
    root_level: RootLevel = None,
    collateral: CollateralFiles = None,
    event_log: EventLog = None,
    reference: Annotated[
        list[str] | None,
        option("Reference values: FILE (TOML, CoRIM) or TEE=FILE; may be repeated.", "[TEE=]FILE"),
    ] = None,
    reference_key: Annotated[
        Path | None, option("The public key that must have signed the CoRIM (PEM).", "PEM")
    ] = None,
    runtime: Annotated[Path | None, option("Runtime data of a Kluis enclave's evidence.", "FILE")] = None,
    launch: Annotated[
        Path | None, option("Launch configuration of a Kluis enclave's evidence.", "FILE")
    ] = None,
    device: Annotated[
        list[Path] | None,
        option("Evidence of the machine's GPU, bound by the document --runtime; may be repeated.", "FILE"),
    ] = None,
    html: Annotated[Path | None, option("Write the verdict as a page to read and print.", "FILE")] = None,
    markdown: Annotated[
        Path | None, option("Write the verdict as Markdown, for a job's summary.", "FILE")
    ] = None,
    ear: Annotated[
        str | None,
        option(
            "Write a signed attestation result: jwt or cwt.", "jwt|cwt", complete=completion.words(EAR_FORMS)
        ),
    ] = None,
    ear_key: Annotated[
        Path | None, option("The private key that signs it, on P-256 or P-384 (PEM).", "PEM")
    ] = None,
    output: Annotated[Path | None, option("Where to write it.", "FILE", "-o", "--output")] = None,
    now: Now = None,
) -> int:
    """Check that evidence is authentic and meets a policy: one check per line, then the verdict.

    For example: kluis appraise evidence.bin --policy policy.toml --nonce 9f02aa77
    """
    from kluis.cli.evidence import keyfiles

    if policy is None:
        raise UsageError(
            "appraise: want --policy FILE, got none",
            hint="kluis policy init EVIDENCE -o policy.toml drafts one",
        )
    signs = keyfiles.signer(ear, ear_key, output, EAR_FORMS)
    wanted = files.policy(policy)
    _asked_for(
        wanted,
        nonce=nonce is not None,
        report_data=report_data is not None,
        documents=[name for name, value in (("--runtime", runtime), ("--launch", launch)) if value],
        reference=bool(reference),
        devices=bool(device),
    )
    when = files.time(now)
    wanted = keyfiles.references(reference or (), reference_key, when).apply(wanted)
    emulated = [policy.parent / name for name in wanted.emulated_roots]
    trusted = roots.anchors(root or (), root_level, emulated)
    checked = verify_evidence(evidence, part or (), event_log, trusted, collateral or (), when)
    _, log, digests, _ = checked
    result = judge_evidence(
        checked,
        wanted,
        evidence,
        nonce=files.from_hex(nonce, "--nonce") if nonce is not None else None,
        report_data=files.from_hex(report_data, "--report-data") if report_data is not None else None,
        when=when,
        runtime=runtime,
        launch=launch,
        devices=[
            files.verify_with_collateral(files.evidence(each, ()), trusted, (), each, when)
            for each in device or ()
        ],
    )
    if html is not None:
        from kluis.views import report_html

        page = report_html.page(result, log=values.describe_log(log), sha256=digests)
        render.save(html, page.encode())
    if markdown is not None:
        from kluis.views import report_markdown

        page = report_markdown.page(result, log=values.describe_log(log), sha256=digests)
        render.save(markdown, page.encode())
    if signs is not None and output is not None:
        render.save(output, signs(result))
    lines = [*text.log(log), *text.result_lines(result)]
    value = {**values.result(result), "sha256": digests, "event_log": values.plain(log)}
    render.out(value, render.fold("\n".join(lines)))
    try:
        result.require()
    except KluisError as refused:
        return refused.exit_code
    return 0


def _asked_for(
    policy: Policy,
    *,
    nonce: bool,
    report_data: bool,
    documents: Sequence[str],
    reference: bool,
    devices: bool,
) -> None:
    """Refuse an option that the policy does not use: the user would think that it is judged.

    Raises:
        UsageError: an option that would change nothing.
    """
    from kluis.appraisal import ReportDataBinding, Session

    foreign = isinstance(policy.binding, ReportDataBinding)
    idle = [name for name in documents if foreign and not (devices and name == "--runtime")]
    fixes = {"--runtime": 'binding.purpose = "cli"', "--launch": 'binding.purpose = "cli"'}
    if nonce and not policy.uses_nonce and not devices:
        idle.append("--nonce")
        fixes["--nonce"] = 'freshness.nonce = true, or binding.report_data = "nonce"'
    if report_data and policy.session is not Session.GIVEN:
        idle.append("--report-data")
        fixes["--report-data"] = 'binding.report_data = "given"'
    if reference and not policy.referenced:
        idle.append("--reference")
        fixes["--reference"] = 'measurements = "reference" in the table of the TEE'
    if idle:
        raise UsageError(
            f"{idle[0]}: want a policy with a rule for it, got one without: it would not be judged",
            hint=f"write {fixes[idle[0]]} in the policy, or leave the option out",
        )
