"""``kluis token``: check an attestation service's token against keys, issuer and the service's own evidence.

Nothing is fetched. The keys are a file that the relying party has; with ``--image`` even that file need not
be trusted, since the signing key's certificate carries evidence of the enclave that made the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from kluis.appraisal import ByImage
from kluis.appraisal.results import trustworthiness
from kluis.appraisal.tokens import attestation_token, token_keys
from kluis.appraisal.tokens.attestation_token import Expected, Token
from kluis.appraisal.tokens.ear import Appraisal
from kluis.appraisal.tokens.ear_claims import LABELS
from kluis.appraisal.tokens.token_keys import TrustedKey
from kluis.cli import completion, render
from kluis.cli.evidence import files, image_ids, text
from kluis.cli.evidence import roots as root_files
from kluis.cli.evidence.verify import CollateralFiles
from kluis.cli.parameters import Now, argument, flag, option
from kluis.collateral.endorsing import of_files
from kluis.errors import KluisError, UsageError
from kluis.evidence import ProtectionLevel
from kluis.evidence.registry import kind_of
from kluis.formats import x509
from kluis.formats.kluis import vouched
from kluis.hashes import sha256
from kluis.views import values

if TYPE_CHECKING:
    from kluis.appraisal.tokens.vouching import SigningKey

MOST_SHOWN: Final = 160
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")


def verify(
    token: Annotated[Path, argument("The token, or - for stdin: JWT or CWT.")],
    keys: Annotated[
        Path, option("The signing keys: a JWKS document, or a certificate or public key (PEM).", "FILE")
    ],
    issuer: Annotated[str | None, option("The issuer that the token must have (iss).", "URL")] = None,
    audience: Annotated[str | None, option("The audience that the token must have (aud).", "NAME")] = None,
    nonce: Annotated[
        str | None, option("The nonce that the attester received: text, or hex for an EAR.", "NONCE")
    ] = None,
    root: Annotated[
        list[Path] | None,
        option(
            "Root (PEM) for the evidence in the signing key's certificate; by default the "
            "vendors' and those of kluis trust.",
            "PEM",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        option("The service's image, to judge the signing key's enclave; may be repeated.", "FILE"),
    ] = None,
    image_id: Annotated[list[str] | None, option("Or its measurement (hex); may be repeated.", "HEX")] = None,
    settings: Annotated[
        list[str] | None, option("With --image: digest of the service's settings (hex).", "HEX")
    ] = None,
    insecure_any_settings: Annotated[
        bool, flag("With --image: accept any settings of the service.", "--insecure-any-settings")
    ] = False,
    protection: Annotated[
        list[ProtectionLevel] | None,
        option(
            "With --image: a level to accept, such as process or hardware-tdx; by default only "
            "hardware levels.",
            "LEVEL",
        ),
    ] = None,
    missing: Annotated[
        list[str] | None, completion.allow_missing("With --image: protections that may be missing.")
    ] = None,
    collateral: CollateralFiles = None,
    now: Now = None,
) -> int:
    """Verify an attestation token offline.

    Checks its signature, issuer, audience and validity.

    Reads Azure Attestation's JWT, and EAR as JWT or CWT. Never trusts a key, an address or a certificate in
    the token's header by itself. Does not judge the claims, except that an EAR that is not affirming exits
    with 6.
    """
    when = files.time(now)
    service = {"--settings": settings, "--protection": protection, "--insecure-allow-missing": missing,
               "--collateral": collateral}  # fmt: skip
    idle = [name for name, value in service.items() if value]
    judged = bool(root or image or image_id)
    if not judged and (idle or insecure_any_settings):
        raise UsageError(f"{(idle or ['--insecure-any-settings'])[0]}: want --image FILE with it, got none")
    wanted = None
    if judged:
        measured = [each.hex() for each in image_ids.measure(image or ())]
        wanted = _identity([*measured, *(image_id or ())], settings or (), insecure_any_settings)
    verified = attestation_token.verify(
        files.read(token), _keys(files.read(keys)), Expected(issuer, audience, nonce), when
    )
    signer = None
    if wanted is not None:
        levels = frozenset(protection or (level for level in ProtectionLevel if level.hardware))
        signer = _signer(
            verified.key, root or (), wanted, levels, frozenset(missing or ()), collateral or (), when
        )
        if not insecure_any_settings:
            signer.require_settings([each.lower() for each in settings or ()])
    render.out(_value(verified, signer), render.fold("\n".join(_lines(verified, signer))))
    try:
        if verified.ear is not None:
            verified.ear.require()
    except KluisError as refused:
        return refused.exit_code
    return 0


def _keys(data: bytes) -> Sequence[TrustedKey]:
    if data.lstrip().startswith(b"{"):
        return tuple(token_keys.read(data, certified=False).values())
    return (token_keys.of_pem(data),)


def _identity(image_ids: Sequence[str], settings: Sequence[str], any_settings: bool) -> ByImage:
    """The required identity of the service's enclave.

    Raises:
        UsageError: none is given, or it is not a digest.
    """
    for name, digests in (("--image-id", image_ids), ("--settings", settings)):
        for each in digests:
            if _DIGEST.fullmatch(each) is None:
                raise UsageError(f"{name}: want 64 hex digits, got {each[:80]!a}")
    if not image_ids:
        raise UsageError(
            "--root: want --image or --image-id with it, got none: under a root there is every enclave of the"
            " platform",
            hint="--image STATE/images/attestation/attestation.kluis",
        )
    if bool(settings) is any_settings:
        raise UsageError(
            "--image: want --settings with it, or --insecure-any-settings",
            hint="kluis serve --json prints attestation_settings, which covers the roots that it trusts",
        )
    return ByImage(image_ids=frozenset(bytes.fromhex(each) for each in image_ids))


def _signer(
    key: TrustedKey,
    roots: Sequence[Path],
    wanted: ByImage,
    protection: frozenset[ProtectionLevel],
    missing: frozenset[str],
    collateral: Sequence[Path],
    now: datetime,
) -> SigningKey:
    """The enclave that made the key, by the evidence in its certificate.

    Raises:
        KluisError: it is not the required one.
    """
    from kluis.appraisal.tokens import vouching  # imported only if an enclave is judged

    if key.certificate is None:
        raise UsageError(
            "--image: want a certificate of the signing key in --keys, got a key without one",
            hint="the service's own document, /certs, has it",
        )
    quote = vouched.evidence_in(x509.parse(key.certificate, "signing certificate")).quote
    return vouching.check(
        key.certificate,
        anchors=root_files.anchors(roots, None),
        collateral=of_files(kind_of(quote), [(str(path), files.read(path)) for path in collateral]),
        policy=vouching.build_policy(
            wanted, protection=protection, counters=frozenset({"unwitnessed"}), missing=missing
        ),
        now=now,
    )


def _value(token: Token, signer: SigningKey | None) -> dict[str, Any]:
    """The findings, for JSON."""
    return {
        "authentic": True,
        "form": str(token.form),
        "key": token.key.kid or None,
        "expires_at": f"{token.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "status": None if token.ear is None else str(token.ear.status),
        "signer": None
        if signer is None
        else {
            "protection": str(signer.result.claims.level),
            "measurement": str(signer.result.claims.measurement),
            "settings": None if signer.settings is None else signer.settings.hex(),
            "not_kept_out": list(signer.result.not_kept_out),
        },
        "claims": values.plain(token.claims),
    }


def _lines(token: Token, signer: SigningKey | None) -> list[str]:
    """The findings, for people."""
    certificate = token.key.certificate
    name = f"key {token.key.kid}" if token.key.kid else "the key that was given"
    rows = [("authentic", f"{token.form}, signed by {name}")]
    if certificate is not None:
        rows.append(("certificate", f"sha256:{sha256(certificate).hex()}"))
    for claim, what in (("iss", "issuer"), ("aud", "audience")):
        if claim in token.claims:
            rows.append((what, _line(token.claims[claim])))
    rows.append(("expires", f"{token.expires_at:%Y-%m-%dT%H:%M:%SZ}"))
    if signer is not None:
        settings = "none" if signer.settings is None else signer.settings.hex()
        rows += [("enclave", str(signer.result.claims.measurement)), ("settings", settings)]
    lines = [f"ok    {what:<21} {text.one_line(shown)}" for what, shown in rows]
    others: dict[str, Any] = dict(values.plain(token.claims))
    if token.ear is not None:
        lines.append(f"tier  {token.ear.status}")
        for label, appraised in sorted(token.ear.submods.items()):
            lines += ["", f"{_line(label)}: {appraised.status}", *_describe_appraisal(appraised)]
        # Each attester is printed above, line by line: in CBOR they are numbers, in JSON one long line.
        others.pop("submods", None)
        others.pop(str(LABELS["submods"]), None)
    lines += ["", *(f"      {_line(claim)}: {_line(value)}" for claim, value in others.items()), ""]
    if signer is None:
        lines.append("signed by a key that you named; with --image its enclave is verified as well")
    else:
        lines += ["the service's enclave:", *text.level(signer.result.claims)]
    return lines


def _describe_appraisal(appraisal: Appraisal) -> Iterator[str]:
    """A verifier's findings about one attester: its tier, its claims, and the rules that it fails."""
    claims = {**appraisal.attester, **appraisal.verifier}
    rules = claims.pop("rules", None)
    claims.pop("not_kept_out", None)
    rows = [
        (str(aspect), f"{number} ({trustworthiness.tier(number)})")
        for aspect, number in appraisal.vector.items()
    ]
    for name, value in claims.items():
        # Two tables may have rows of one name: the evidence's nonce is not the given one.
        parts = {f"{name}.{label}": part for label, part in value.items()} if isinstance(value, dict) else {}
        rows += [
            (label, _text_of(part))
            for label, part in (parts or {name: value}).items()
            if part not in (None, [])
        ]
    for what, shown in rows:
        label = _line(what)
        between = " " if len(label) <= 21 else "  "  # what is folded is folded at two
        yield f"      {label:<21}{between}{text.one_line(shown)}"
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict) and rule.get("ok") is not True:
            name, want, got = (_line(rule.get(key)) for key in ("name", "want", "got"))
            yield f"FAIL  {name:<21} want {want}, got {got}"
    if appraisal.not_kept_out:
        yield "      not kept out:"
        yield from (f"        - {text.one_line(each)}" for each in appraisal.not_kept_out)


def _text_of(value: object) -> str:
    """A verifier's value, whole if it is text: part of a digest is useless."""
    if isinstance(value, list):
        return ", ".join(map(_text_of, value))
    return value if isinstance(value, str) else _line(value)


def _line(value: object) -> str:
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text.one_line(shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}...")


COMMANDS = (verify,)
