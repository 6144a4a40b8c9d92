"""``kluis inspect``, ``verify``, ``appraise``, ``policy``: what evidence says, and whether to believe it.

The documents beside a quote are looked for beside it: ``quote.bin.runtime.json``,
``quote.bin.launch.json`` and ``quote.bin.collateral.json``. A root never is: an emulated one is
trusted only where ``--root`` or the policy names its file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from kluis import appraisal, evidence
from kluis.cli import evidence_text as text
from kluis.cli import render
from kluis.cli.render import Json
from kluis.errors import FormatError, KluisError, UnavailableError, UsageError
from kluis.evidence import Claims, Collateral, ProtectionLevel, TrustAnchors, Verified
from kluis.formats import launch as launching
from kluis.formats.launch import LaunchConfiguration
from kluis.formats.runtime_data import Purpose, RuntimeData
from kluis.formats.sgx import quote as sgx_quote

MAX_FILE: Final = 8 << 20

Quote = Annotated[Path, typer.Argument(help="The evidence: a DCAP quote.", show_default=False)]
Root = Annotated[
    Path | None, typer.Option("--root", help="Root certificate to trust instead of the shipped ones (PEM).")
]
CollateralFile = Annotated[
    Path | None, typer.Option("--collateral", help="TCB info, QE identity and CRLs (JSON).")
]
Now = Annotated[str | None, typer.Option("--now", help="Judge as of this time, as 2026-01-31T00:00:00Z.")]


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    for command in (inspect, verify, appraise):
        app.command()(command)
    policy = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    policy.command("init")(policy_init)
    policy.callback()(_policy)
    app.add_typer(policy, name="policy", help="Write a policy to begin with.")


def inspect(quote: Quote, json: Json = False) -> None:
    """Print what evidence says, unverified."""
    parsed = sgx_quote.parse(_read(quote))
    runtime, launch = _beside(quote, "runtime"), _beside(quote, "launch")
    value, rows = text.quote(
        parsed,
        RuntimeData.parse(_read(runtime)) if runtime else None,
        LaunchConfiguration.parse(_read(launch)) if launch else None,
    )
    render.out(value, render.table(rows) + "\n\nnothing above is verified: kluis verify checks it")


def verify(
    quote: Quote,
    root: Root = None,
    collateral: CollateralFile = None,
    now: Now = None,
    json: Json = False,
) -> None:
    """Check that evidence is authentic; whether it is wanted, kluis appraise says."""
    claims = _verify(quote, _anchors(root), collateral, _time(now)).value
    lines = [*text.authentic(claims), "", "authentic, and not appraised", *text.level(claims)]
    render.out({"authentic": True, "appraised": False, "claims": text.claims(claims)}, "\n".join(lines))


def appraise(
    quote: Quote,
    policy: Annotated[Path, typer.Option("--policy", help="What is wanted (TOML).")],
    nonce: Annotated[str | None, typer.Option("--nonce", help="The nonce you made (hex).")] = None,
    root: Root = None,
    collateral: CollateralFile = None,
    runtime: Annotated[Path | None, typer.Option("--runtime", help="Runtime data beside the quote.")] = None,
    launch: Annotated[
        Path | None, typer.Option("--launch", help="Launch configuration beside the quote.")
    ] = None,
    now: Now = None,
    json: Json = False,
) -> int:
    """Check that evidence is authentic and what a policy wants: one check a line, then the verdict."""
    wanted = appraisal.loads(_read(policy))
    when = _time(now)
    anchors = TrustAnchors.shipped()
    for name in wanted.emulated_roots:
        anchors |= TrustAnchors.from_pem(_read(policy.parent / name))
    if root is not None:
        anchors = _anchors(root)
    verified = _verify(quote, anchors, collateral, when)
    result = appraisal.appraise(
        verified,
        wanted,
        nonce=_hex(nonce, "--nonce") if nonce is not None else None,
        runtime_data=_optional(runtime, quote, "runtime"),
        launch_configuration=_optional(launch, quote, "launch"),
        now=when,
    )
    render.out(text.result(result), "\n".join(text.result_lines(result)))
    try:
        result.require()
    except KluisError as refused:
        return refused.exit_code
    return 0


def _policy() -> None:
    """Write a policy to begin with."""


def policy_init(
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write the policy.")],
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="An image to accept; may be repeated.")
    ] = None,
    image_id: Annotated[
        list[str] | None, typer.Option("--image-id", help="Or a measurement (hex); may be repeated.")
    ] = None,
    signer: Annotated[
        list[str] | None, typer.Option("--signer", help="Or a signer to accept (hex); may be repeated.")
    ] = None,
    product_id: Annotated[int, typer.Option("--product-id", help="With --signer: the product.")] = 0,
    min_svn: Annotated[int, typer.Option("--min-svn", help="With --signer: the least version.")] = 0,
    protection: Annotated[
        list[str] | None,
        typer.Option("--protection", help="A level to accept; hardware-sgx if none is named."),
    ] = None,
    purpose: Annotated[str, typer.Option("--purpose", help="What the evidence is for.")] = Purpose.CLI.value,
    missing: Annotated[
        list[str] | None, typer.Option("--missing", help="A protection that may be missing; may be repeated.")
    ] = None,
    root: Annotated[
        list[str] | None, typer.Option("--root", help="File of an emulated root to trust; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a strict policy that says everything a policy must."""
    if bool(image or image_id) == bool(signer):
        raise UsageError("policy init: want --image, --image-id or --signer, and not both kinds")
    identity: appraisal.ByImage | appraisal.BySigner
    if not signer:
        measured = {_hex(text, "--image-id") for text in image_id or ()} | {
            _measure(path) for path in image or ()
        }
        identity = appraisal.ByImage(image_ids=frozenset(measured))
    else:
        identity = appraisal.BySigner(
            signers=frozenset(_hex(text, "--signer") for text in signer),
            product_id=product_id,
            min_svn=min_svn,
        )
    levels = protection or [ProtectionLevel.HARDWARE_SGX.value]
    known = [level.value for level in ProtectionLevel if level is not ProtectionLevel.NONE]
    for level in levels:
        if level not in known:
            raise UsageError(f"--protection: want one of {', '.join(known)}, got {level}")
    if purpose not in set(Purpose):
        raise UsageError(f"--purpose: want one of {', '.join(Purpose)}, got {purpose}")
    made = appraisal.strict(
        identity,
        protection=frozenset(map(ProtectionLevel, levels)),
        purpose=Purpose(purpose),
        counters=frozenset({launching.UNWITNESSED}),
        missing=frozenset(missing or ()),
        emulated_roots=tuple(root or ()),
    )
    if output.exists():
        raise UsageError(f"{output}: exists already", hint="name another file, or remove it first")
    output.write_text(appraisal.dumps(made), encoding="utf-8")
    render.out({"policy": str(output)}, f"written: {output}")


def _verify(quote: Path, anchors: TrustAnchors, collateral: Path | None, now: datetime) -> Verified[Claims]:
    data = _read(quote)
    path = collateral or _beside(quote, "collateral")
    if path is None:
        raise UnavailableError(
            f"{quote}: no collateral given, and none beside it",
            hint=f"kluis platform collateral -o {quote}.collateral.json, where the enclave ran",
            code="collateral_missing",
        )
    return evidence.verify(data, anchors=anchors, collateral=Collateral.from_json(_read(path)), now=now)


def _measure(image: Path) -> bytes:
    from kluis.tee.image.archive import read_image  # the verifier's commands load no part of the attester

    try:
        with image.open("rb") as file:
            return read_image(file).image_id
    except OSError as error:
        raise UsageError(f"{image}: cannot be read: {error.strerror}") from None


def _anchors(root: Path | None) -> TrustAnchors:
    return TrustAnchors.shipped() if root is None else TrustAnchors.from_pem(_read(root))


def _beside(quote: Path, name: str) -> Path | None:
    path = quote.with_name(f"{quote.name}.{name}.json")
    return path if path.is_file() else None


def _optional(given: Path | None, quote: Path, name: str) -> bytes | None:
    path = given or _beside(quote, name)
    return _read(path) if path else None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise FormatError(f"{path}: is more than {MAX_FILE} bytes", code="too_large")
    return data


def _hex(value: str, name: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise UsageError(f"{name}: want hex, got {value[:32]!a}") from None


def _time(value: str | None) -> datetime:
    if value is None:
        return datetime.now(UTC)
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise UsageError(f"--now: want a time like 2026-01-31T00:00:00Z, got {value[:32]!a}")
    return when.astimezone(UTC)
