"""``kluis vault``: identify a key service and save its identity; approve its next authorities."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from kluis.appraisal.tokens import vouching
from kluis.cli import completion, render
from kluis.cli.evidence import files, image_ids
from kluis.cli.evidence import roots as root_files
from kluis.cli.evidence.machines import machine_of
from kluis.cli.parameters import Output, argument, option
from kluis.enclave.vaults import ExpectedVault
from kluis.errors import FormatError, PolicyError, UnavailableError, UsageError, foreign
from kluis.evidence import Collateral, ProtectionLevel, TrustAnchors
from kluis.formats.kluis.runtime_data import Purpose
from kluis.services.clock import SystemClock
from kluis.tee.platform.client import Platform

if TYPE_CHECKING:
    import httpx

UNNAMED: Final = "00" * 32  # until the vault has reported its name to a client that has verified it
_NAME_IT: Final = "--image STATE/images/keyvault/keyvault.kluis; kluis measure prints its image_id"
_IMAGE_ID: Final = re.compile(r"[0-9A-Fa-f]{64}")
NEXT: Final = "/configuration/next"
LEVELS: Final = [ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER]

Url = Annotated[str, argument("The vault: https://host[:port].")]
Root = Annotated[
    Path | None,
    option(
        "The root that the vault's evidence must chain to; by default the trust store's only one.",
        "ROOT",
        "--root",
    ),
]
Images = Annotated[list[Path] | None, option("The vault's image; may be repeated.", "FILE", "--image")]
ImageIds = Annotated[
    list[str] | None, option("Or its measurement (hex); may be repeated.", "HEX", "--image-id")
]
Protection = Annotated[
    list[ProtectionLevel] | None,
    option(
        "A level to accept, such as hardware-tdx; by default process and process-user.",
        "LEVEL",
        "--protection",
    ),
]
Missing = Annotated[list[str] | None, completion.allow_missing("Protections that may be missing.")]
Machine = Annotated[
    Path | None,
    option(
        "It must run in a machine that the table [machine] of this policy accepts.", "POLICY", "--machine"
    ),
]
Token = Annotated[Path, option("An administrator's bearer token: a file, or - for stdin.", "FILE", "--token")]
CollateralFile = Annotated[
    Path | None,
    option("Collateral for its evidence; by default from this machine's platform.", "FILE", "--collateral"),
]


def meet(
    url: Url,
    root: Root = None,
    output: Output = None,
    image: Images = None,
    image_id: ImageIds = None,
    protection: Protection = None,
    missing: Missing = None,
    machine: Machine = None,
    collateral: CollateralFile = None,
) -> None:
    """Identify a vault over attested TLS; write its identity to a file.

    An image with this file opens only keys that this vault released: ExpectedVault.parse, open_released.
    """
    wanted = _expect_vault(url, root, image, image_id, protection, missing, machine)
    vault = identify(url, wanted, _read_collateral(collateral))
    if output is None:
        render.out(vault, vault.encode().decode().rstrip())
        return
    render.save(output, vault.encode())
    render.out(
        vault, render.table([("vault", vault.vault), ("image", *vault.images[:1]), ("written", str(output))])
    )


def approve(
    url: Url,
    proposal: Annotated[Path, argument("The proposed settings, as written by the start that failed.")],
    token: Token,
    root: Root = None,
    image: Images = None,
    image_id: ImageIds = None,
    protection: Protection = None,
    missing: Missing = None,
    machine: Machine = None,
    collateral: CollateralFile = None,
) -> None:
    """Approve other authorities, or another issuer, for a vault.

    Read the file first.

    Records the approval in the running vault; needs a token with the Key Vault Administrator role. The vault
    keeps running with its current settings. Its next start may use exactly the approved settings, or the
    current ones. Existing release policies do not trust a new authority: each keeps the authority that it was
    set with.
    """
    document, headers = files.read(proposal), _bearer(token)
    headers["Content-Type"] = "application/json"
    wanted = _expect_vault(url, root, image, image_id, protection, missing, machine)
    with _client(url, wanted, _read_collateral(collateral)) as client:
        answer = client.put(f"{url.rstrip('/')}{NEXT}", content=document, headers=headers)
    body = _answer_of(url, answer)
    try:
        rows = [(str(one["at"]), str(one["from"]), str(one["to"])) for one in body["changes"]]
        value = {"next": str(body["next"]), "changes": body["changes"]}
    except (KeyError, TypeError):
        raise FormatError(f"vault {url}: want what was approved, got another", code="malformed") from None
    lines = [line for at, before, after in rows for line in (at, f"  was  {before}", f"  next {after}")]
    lines += ["", f"approved {value['next']}: the next start under exactly this set is taken, once"]
    render.out(value, "\n".join(lines))


def withdraw(
    url: Url,
    token: Token,
    root: Root = None,
    image: Images = None,
    image_id: ImageIds = None,
    protection: Protection = None,
    missing: Missing = None,
    machine: Machine = None,
    collateral: CollateralFile = None,
) -> None:
    """Withdraw an approval that no start has used yet."""
    headers = _bearer(token)
    wanted = _expect_vault(url, root, image, image_id, protection, missing, machine)
    with _client(url, wanted, _read_collateral(collateral)) as client:
        answer = client.delete(f"{url.rstrip('/')}{NEXT}", headers=headers)
    if answer.status_code != HTTPStatus.NO_CONTENT:
        _answer_of(url, answer)
    render.out({"next": None}, "nothing is approved: the vault starts as it is, or not at all")


def _bearer(token: Path) -> dict[str, str]:
    """The header that authenticates the caller; the token itself is in no message."""
    text = files.read(token).decode("ascii", "replace").strip()
    if not text or not text.isprintable() or " " in text:
        raise UsageError(f"--token: want a bearer token and nothing else in {token}, got another")
    return {"Authorization": f"Bearer {text}"}


def _answer_of(url: str, answer: httpx.Response) -> Any:
    """The vault's answer.

    Raises:
        PolicyError, UsageError, UnavailableError: it refuses; with the reason.
    """
    try:
        body = answer.json()
    except ValueError:
        raise FormatError(f"vault {url}: want JSON, got another", code="malformed") from None
    if answer.status_code == HTTPStatus.OK:
        return body
    error = body.get("error") if isinstance(body, dict) else None
    why = foreign(str(error.get("message"))) if isinstance(error, dict) else "no reason"
    if answer.status_code in (401, 403):
        raise PolicyError(f"vault {url}: {why}", hint="the token wants the role Key Vault Administrator")
    kind = UsageError if answer.status_code < 500 else UnavailableError
    raise kind(f"vault {url}: {why}")


def _image_ids(paths: list[Path] | None, ids: list[str] | None) -> tuple[str, ...]:
    """The image ids that the vault may have, in hex.

    Raises:
        UsageError: none is named, a word is not a digest, or a file is not an image.
    """
    for each in ids or ():
        if not _IMAGE_ID.fullmatch(each):
            raise UsageError(f"--image-id: want 64 hex digits, got {each[:80]!a}", hint=_NAME_IT)
    if not paths and not ids:
        raise UsageError("vault: want --image FILE or --image-id HEX, got neither", hint=_NAME_IT)
    for path in paths or ():
        if not path.exists():
            raise UsageError(
                f"{path}: cannot be read: No such file or directory",
                hint="kluis serve keyvault writes its image: start it first",
            )
    return tuple(each.hex() for each in image_ids.measure(paths or ())) + tuple(
        each.lower() for each in ids or ()
    )


def _expect_vault(
    url: str,
    root: Path | None,
    image: list[Path] | None,
    image_id: list[str] | None,
    protection: list[ProtectionLevel] | None,
    missing: list[str] | None,
    machine: Path | None,
) -> ExpectedVault:
    """The required identity of the vault's enclave.

    Raises:
        UsageError: no image is named, or a word names no vault.
    """
    images = _image_ids(image, image_id)
    if not url.startswith("https://"):
        raise UsageError(f"vault: want https://host[:port], got {url[:80]!a}")
    return ExpectedVault(
        vault=UNNAMED,
        roots=(root_files.one(root).decode("utf-8", "replace"),),
        images=images,
        levels=tuple(str(each) for each in protection or LEVELS),
        missing=tuple(missing or ()),
        machine=machine_of(machine),
    )


def _read_collateral(collateral: Path | None) -> bytes:
    return Platform.connect().collateral() if collateral is None else files.read(collateral)


@contextlib.contextmanager
def _client(url: str, wanted: ExpectedVault, collateral: bytes) -> Iterator[httpx.Client]:
    """A client whose connection ends only inside the required enclave.

    Raises:
        UnavailableError: no service answers there.
        KluisError: it is not the required enclave.
    """
    import httpx  # which the extra brings

    from kluis.host import attested

    policy = wanted.policy(Purpose.CHANNEL, nonce=True)
    transport = attested.transport(policy, root=wanted.roots[0].encode(), collateral=collateral)
    try:
        with httpx.Client(transport=transport, timeout=60) as client:
            yield client
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnavailableError(f"vault {url}: {error}", hint="kluis serve keyvault") from None


def identify(url: str, wanted: ExpectedVault, collateral: bytes) -> ExpectedVault:
    """Identify a vault: its description of itself, over a connection that verifies its enclave.

    Args:
        url: ``https://host[:port]``.
        wanted: the required enclave, with any name of the vault.
        collateral: for its evidence, JSON.

    Raises:
        UnavailableError: no service answers there.
        KluisError: it is not the required enclave, or reports something else.
    """
    with _client(url, wanted, collateral) as client:
        answer = client.get(f"{url.rstrip('/')}/configuration")
    if answer.status_code == HTTPStatus.NOT_FOUND:
        raise FormatError(
            f"vault {url}: want a vault, got another service: it has no /configuration",
            hint="kluis serve --json prints keyvault's address and image",
            code="malformed",
        )
    body = _answer_of(url, answer)
    try:
        name, certificate = str(body["vault"]), base64.b64decode(body["signingCertificate"])
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"vault {url}: want a configuration, got another", code="malformed") from None
    vouching.check(
        certificate,
        anchors=TrustAnchors.from_pem(wanted.roots[0].encode()),
        collateral=Collateral.from_json(collateral),
        policy=wanted.policy(Purpose.APP),
        now=SystemClock().now(),
    )
    vault = msgspec.structs.replace(wanted, vault=name)
    vault.policy(Purpose.APP)
    return vault


COMMANDS = (meet, approve, withdraw)
