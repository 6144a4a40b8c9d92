"""Turn the options of ``kluis serve`` into the settings of each service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kluis.cli.evidence import files
from kluis.errors import FormatError, KluisError, UsageError
from kluis.evidence import ProtectionLevel, TrustAnchors
from kluis.evidence.anchors import STATED_LEVELS
from kluis.formats.encoding import b64, typed
from kluis.serve.images import SERVICES


def merge(path: Path | None, options: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Settings of a file, by service, merged with those from options: lists are joined, else the option wins.

    Args:
        path: JSON, one object for each service; None for no file.
        options: settings from options, by service.

    Raises:
        UsageError: the file cannot be read, has another shape, or names an unknown service; or a root is
            named under which nothing would be attested.
    """
    try:
        read = {} if path is None else json.loads(files.read(path))
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or not all(isinstance(each, dict) for each in read.values()):
        raise UsageError(f"{path}: want settings by service, JSON")
    if more := sorted(set(read) - set(SERVICES)):
        raise UsageError(f"{path}: want settings of {', '.join(SERVICES)}, got {more[0]!a}")
    made = {service: dict(members) for service, members in read.items()}
    for service, own in made.items():
        _check_members(own, service, path)
    for service, members in options.items():
        known = made.setdefault(service, {})
        for name, value in members.items():
            before = known.get(name)
            both = isinstance(value, list) and isinstance(before, list)
            known[name] = before + value if both else value
    attestation = made.get("attestation", {})
    if attestation.get("insecure_accept_unprotected") is not True:
        _check_levels(attestation.get("roots"))
    return made


def _check_members(members: dict[str, Any], service: str, path: Path | None) -> None:
    """Refuse now what the service's enclave would refuse only some twenty seconds later."""
    from kluis.services.attestation.settings import AttestationSettings
    from kluis.services.keyvault.settings import Settings as KeyVaultSettings
    from kluis.services.ledger.settings import Settings as LedgerSettings
    from kluis.services.provisioning.app import Settings as ProvisioningSettings

    kinds: dict[str, type[msgspec.Struct]] = {
        "attestation": AttestationSettings,
        "keyvault": KeyVaultSettings,
        "ledger": LedgerSettings,
        "provisioning": ProvisioningSettings,
    }
    try:
        typed.check_members(members, kinds[service], f"{path}: {service}")
    except FormatError as error:
        raise UsageError(error.message, hint=error.hint) from None


def _check_levels(roots: object) -> None:
    """Refuse an unusable root: the service would refuse all evidence under it, every time."""
    for root in roots if isinstance(roots, list) else ():
        try:
            level = ProtectionLevel(root["level"]) if root["level"] is not None else None
            (anchor,) = TrustAnchors.from_pem(b64.decode(root["pem"], "root"), level)
        except (KluisError, ValueError, KeyError, TypeError):
            continue  # the service's enclave reports what is wrong with it
        if anchor.level is ProtectionLevel.NONE:  # neither a vendor's root nor an emulated one has this level
            raise UsageError(
                f"root {anchor.name[:64]!a}: want a level, because the root is neither a vendor's nor"
                " emulated, got no level",
                hint="--root FILE=hardware-sgx, or another level, where you know who holds its key; "
                "--insecure-accept-unprotected attests at level none",
            )


def attestation(
    roots: list[str] | None,
    bundles: list[Path] | None,
    signers: list[Path] | None,
    issuers: list[Path] | None,
    token_seconds: int | None,
    unprotected: bool,
) -> Mapping[str, Any]:
    """Settings of the attestation service from its options, without those that were not given.

    Args:
        roots: files of roots, PEM, each only a path or with ``=LEVEL``.
        bundles: files of Intel's documents, JSON.
        signers: files of certificates, PEM, whose keys sign policies.
        issuers: files of the CAs that certify TPMs' keys, PEM.
        token_seconds: lifetime of a token.
        unprotected: whether evidence of level ``none`` is attested.

    Raises:
        UsageError: a file cannot be read, or is malformed; names it.
    """
    made: dict[str, Any] = {}
    if roots:
        made["roots"] = [_root(one) for one in roots]
    if bundles:
        made["collateral"] = [b64.encode(files.read(path)) for path in bundles]
    if signers:
        made["policy_signers"] = [b64.encode(_certificates(path)[0]) for path in signers]
    if issuers:
        made["tpm_issuers"] = [b64.encode(der) for path in issuers for der in _certificates(path)]
    if token_seconds is not None:
        made["token_seconds"] = token_seconds
    if unprotected:
        made["insecure_accept_unprotected"] = True
    return made


def _root(value: str) -> dict[str, Any]:
    path, equals, level = value.partition("=")
    if not Path(path).is_file():
        hint = f"kluis platform root -o {path} writes this machine's"
        raise UsageError(f"{path}: want a root certificate, PEM, got no file", hint=hint)
    if equals and level not in STATED_LEVELS:
        raise UsageError(f"--root: {path}: want a level of {', '.join(STATED_LEVELS)}, got {level[:32]!a}")
    pem = files.read(Path(path))
    try:
        TrustAnchors.from_pem(pem)  # otherwise an enclave reports it half a minute later
    except KluisError as error:
        raise UsageError(f"{path}: want a root certificate, PEM: {error.message}") from None
    return {"pem": b64.encode(pem), "level": level if equals else None}


def _certificates(path: Path) -> list[bytes]:
    """One or more certificates of a file, DER."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificates = x509.load_pem_x509_certificates(files.read(path))
    except (ValueError, x509.InvalidVersion):
        raise UsageError(f"{path}: want a certificate, PEM") from None
    return [each.public_bytes(Encoding.DER) for each in certificates]


def pair(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """The operator's own certificate and its key; None if neither is given.

    Raises:
        UsageError: only one of them is given.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        first, other = ("--key", "--certificate") if certificate is None else ("--certificate", "--key")
        raise UsageError(f"{first}: want also {other}, got no such option")
    return certificate, key


def authorities(documents: list[Path] | None, insecure: list[str] | None) -> tuple[Mapping[str, Any], ...]:
    """The vault's additional authorities.

    Args:
        documents: files of one each, JSON.
        insecure: URLs of those whose keys the host fetches.

    Raises:
        UsageError: a file cannot be read, or is not JSON; names it.
    """
    names = []
    for path in documents or ():
        try:
            names.append(json.loads(files.read(path)))
        except ValueError:
            raise UsageError(f"{path}: want an authority, JSON") from None
    return (*names, *({"type": "insecure_fetched", "url": url} for url in insecure or ()))
