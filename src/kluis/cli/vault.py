"""``kluis vault``: meet a key service, and write down who it is, for images that take keys from it alone."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from kluis.cli import evidence_files as files
from kluis.cli import render
from kluis.cli.render import Json
from kluis.enclave import vouching
from kluis.enclave.vaults import ExpectedVault
from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.evidence import Collateral, ProtectionLevel, TrustAnchors
from kluis.formats.runtime_data import Purpose
from kluis.host import attested
from kluis.services.clock import SystemClock
from kluis.tee.platform.client import Platform

UNNAMED: Final = "00" * 32  # until the vault has said its name, to one who knows that it is a vault
_IMAGE_ID: Final = re.compile(r"[0-9A-Fa-f]{64}")
LEVELS: Final = [ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("vault")(vault)


def vault(
    url: Annotated[str, typer.Argument(help="The vault: https://host[:port].", show_default=False)],
    root: Annotated[Path, typer.Option("--root", help="The root that its evidence must chain to, PEM.")],
    image_id: Annotated[
        list[str], typer.Option("--image-id", help="What its image measures to; may be repeated.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write it to a file instead of stdout.")
    ] = None,
    protection: Annotated[
        list[ProtectionLevel] | None,
        typer.Option("--protection", help="A level that will do; by default process and process-user."),
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option("--insecure-allow-missing", help="Protections that it may lack.")
    ] = None,
    collateral: Annotated[
        Path | None,
        typer.Option("--collateral", help="For its evidence; by default this machine's platform's."),
    ] = None,
    json: Json = False,
) -> None:
    """Meet a vault, and write down which one it is, over attested TLS.

    An image that has the file opens keys that this vault released, and no other's: ExpectedVault.parse,
    open_released.
    """
    for each in image_id:
        if not _IMAGE_ID.fullmatch(each):
            raise UsageError(
                f"--image-id: want 64 hex digits, got {each[:80]!a}",
                hint="kluis measure STATE/images/keyvault/keyvault.kluis",
            )
    if not url.startswith("https://"):
        raise UsageError(f"vault: want https://host[:port], got {url[:80]!a}")
    wanted = ExpectedVault(
        vault=UNNAMED,
        roots=(files.read(root).decode("utf-8", "replace"),),
        images=tuple(each.lower() for each in image_id),
        levels=tuple(str(each) for each in protection or LEVELS),
        missing=tuple(missing or ()),
    )
    endorsed = Platform.connect().collateral() if collateral is None else files.read(collateral)
    found = _met(url, wanted, endorsed)
    if output is None:
        render.out(found, found.encode().decode().rstrip())
        return
    output.write_bytes(found.encode())
    render.out(
        found, render.table([("vault", found.vault), ("image", *found.images[:1]), ("written", str(output))])
    )


def _met(url: str, wanted: ExpectedVault, collateral: bytes) -> ExpectedVault:
    """What the vault says of itself, to one who knows the enclave that says it.

    Raises:
        UnavailableError: nobody answers there.
        KluisError: it is not what was wanted, or says something else.
    """
    pem = wanted.roots[0].encode()
    policy = wanted.policy(Purpose.CHANNEL, nonce=True)
    try:
        with httpx.Client(transport=attested.transport(policy, root=pem, collateral=collateral)) as client:
            said: Any = client.get(f"{url.rstrip('/')}/configuration").raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"vault {url}: {error}", hint="kluis serve keyvault") from None
    try:
        name, certificate = str(said["vault"]), base64.b64decode(said["signingCertificate"])
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"vault {url}: want a configuration, got another", code="malformed") from None
    vouching.check(
        certificate,
        anchors=TrustAnchors.from_pem(pem),
        collateral=Collateral.from_json(collateral),
        policy=wanted.policy(Purpose.APP),
        now=SystemClock().now(),
    )
    found = ExpectedVault(
        vault=name, roots=wanted.roots, images=wanted.images, levels=wanted.levels, missing=wanted.missing
    )
    found.policy(Purpose.APP)
    return found
