"""Read keys and reference values that a command line names; refuse those of another kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from kluis.appraisal.policy.reference import ReferenceValues
from kluis.cli.evidence import files
from kluis.errors import UsageError
from kluis.evidence import Tee
from kluis.formats.ietf import corim

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

CURVES: Final = ("secp256r1", "secp384r1")
MAKES_A_KEY: Final = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem makes a key"


def private_key(path: Path) -> EllipticCurvePrivateKey:
    """A private key on P-256 or P-384, in PEM without a password.

    Raises:
        UsageError: it is not such a key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(files.read(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise UsageError(
            f"{path}: want a private key on P-256 or P-384 in PEM, without a password", hint=MAKES_A_KEY
        )
    return key


def public_key(path: Path) -> EllipticCurvePublicKey:
    """A public key on P-256 or P-384, in PEM.

    Raises:
        UsageError: it is not such a key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(files.read(path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise UsageError(f"{path}: want a public key on P-256 or P-384 in PEM")
    return key


def references(names: Sequence[str], key: Path | None, now: datetime) -> ReferenceValues:
    """Reference values of all files: TOML and unsigned CoRIM are accepted; with a key, only what it signed.

    Raises:
        UsageError: an unknown TEE, or a key that nothing needs.
    """
    found = ReferenceValues(MappingProxyType({}))
    signer = public_key(key) if key is not None else None
    for name in names:
        tee, equals, file = name.partition("=")
        whose = Tee(tee) if equals and tee in set(Tee) else None
        data = files.read(Path(file if whose else name))
        if corim.matches(data):
            found |= ReferenceValues.from_corim(data, key=signer, now=now, tee=whose)
            continue
        if signer is not None:
            # An attacker who may replace the file would put an unsigned one in its place.
            raise UsageError(
                f"--reference-key: want only signed CoRIMs with it, got {name}, which is unsigned",
                hint="state the values in the policy itself",
            )
        found |= ReferenceValues.loads(data)
    if signer is not None and not names:
        raise UsageError("--reference-key: want a signed CoRIM with it, got none")
    return found
