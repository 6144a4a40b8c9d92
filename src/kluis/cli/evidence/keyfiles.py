"""Read keys and reference values that a command line names, and sign results with a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
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

    from kluis.appraisal import AttestationResult

TOKEN_LIFETIME: Final = timedelta(minutes=5)
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
    values = ReferenceValues(MappingProxyType({}))
    signer = public_key(key) if key is not None else None
    for name in names:
        tee, equals, file = name.partition("=")
        whose = Tee(tee) if equals and tee in set(Tee) else None
        data = files.read(Path(file if whose else name))
        if corim.matches(data):
            values |= ReferenceValues.from_corim(data, key=signer, now=now, tee=whose)
            continue
        if signer is not None:
            # An attacker who may replace the file would put an unsigned one in its place.
            raise UsageError(
                f"--reference-key: want only signed CoRIMs with it, got {name}, which is unsigned",
                hint="state the values in the policy itself",
            )
        values |= ReferenceValues.loads(data)
    if signer is not None and not names:
        raise UsageError("--reference-key: want a signed CoRIM with it, got none")
    return values


def signer(
    kind: str | None, key: Path | None, output: Path | None, forms: Sequence[str]
) -> Callable[[AttestationResult], bytes] | None:
    """The signer of the result, if it is to be signed; a missing key is reported before anything is judged.

    Args:
        kind: of the result, ``jwt`` or ``cwt``; None if it is not to be signed.
        key: file of the private key.
        output: file for the result.
        forms: the known kinds.
    """
    if kind is None and key is None and output is None:
        return None
    if kind not in forms or key is None or output is None:
        options = {f"--ear {kind}": kind, "--ear-key": key, "-o": output}
        got = ", ".join(name for name, value in options.items() if value is not None)
        raise UsageError(
            f"--ear: want --ear jwt or cwt with --ear-key FILE and -o FILE, got {got}", hint=MAKES_A_KEY
        )
    private = private_key(key)

    def sign(result: AttestationResult) -> bytes:
        from kluis.appraisal.tokens import ear, signing

        issued = result.appraised_at
        made = ear.of(result, issued_at=issued, expires_at=issued + TOKEN_LIFETIME)
        return signing.sign_jwt(made, private).encode() if kind == "jwt" else signing.sign_cwt(made, private)

    return sign
