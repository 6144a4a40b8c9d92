"""Check one TPM quote under a trusted key: that the key made it, over the given PCR values.

Spec: TCG "TPM 2.0 Library Part 3: Commands", "TPM2_Quote".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kluis.errors import AuthenticityError, FreshnessError
from kluis.evidence import signatures
from kluis.evidence.context import Context
from kluis.formats.tpm import attest
from kluis.formats.tpm.algorithm import RSAPSS, RSASSA, HashId
from kluis.formats.tpm.attest import Clock, Quote, Selection
from kluis.formats.tpm.pcrs import Values
from kluis.formats.tpm.signature import EcdsaSignature, Signature
from kluis.formats.x509 import Scheme
from kluis.frozen import frozen

WHAT: Final = "TPM quote"
_RSA: Final = {
    (RSASSA, HashId.SHA256): Scheme.RS256,
    (RSASSA, HashId.SHA384): Scheme.RS384,
    (RSASSA, HashId.SHA512): Scheme.RS512,
    (RSAPSS, HashId.SHA256): Scheme.PS256,
    (RSAPSS, HashId.SHA384): Scheme.PS384,
    (RSAPSS, HashId.SHA512): Scheme.PS512,
}
_EC: Final = {
    HashId.SHA256: (Scheme.ES256, 32),
    HashId.SHA384: (Scheme.ES384, 48),
    HashId.SHA512: (Scheme.ES512, 66),
}

_HASHED: Final = {HashId.SHA256: hashlib.sha256, HashId.SHA384: hashlib.sha384, HashId.SHA512: hashlib.sha512}


@frozen(kw_only=True)
class Checked:
    """A quote whose signature and PCR values are verified.

    Attributes:
        quote: the quote.
        hash: of its signature and its PCR digest.
        values: of only the selected PCRs, by bank and index.
    """

    quote: Quote
    hash: HashId
    values: Mapping[HashId, Mapping[int, bytes]]


def check(
    message: bytes,
    signature: Signature,
    values: Values,
    key: bytes,
    *,
    context: Context,
    nonce: bytes | None = None,
    selection: tuple[Selection, ...] | None = None,
) -> Checked:
    """Check one quote.

    1. It is a quote that a TPM made: magic and type.
    2. The signature's scheme and hash are allowed: RSASSA, RSAPSS or ECDSA, SHA-256 or longer.
    3. ``key`` signed the message, exactly as it was received.
    4. Its extra data are exactly ``nonce``, if given.
    5. It selects at least one PCR, and exactly ``selection``, if given, including the banks.
    6. There is a value for every PCR that it selects.
    7. Its PCR digest is the signature's hash over those values: banks in the quote's order, PCRs ascending.

    Args:
        message: TPMS_ATTEST.
        signature: over it.
        values: PCR values, of any origin.
        key: DER of the SubjectPublicKeyInfo of a trusted attestation key.
        context: of the verifier.
        nonce: that must have been signed; None leaves the comparison to appraisal.
        selection: that must have been quoted; None leaves the comparison to appraisal.

    Raises:
        FormatError: step 1.
        AuthenticityError: steps 2, 3, 5, 6 or 7.
        FreshnessError: step 4.
    """
    quote = attest.parse(message)  # 1
    scheme, raw = _scheme(signature)  # 2
    signatures.check_raw(raw, message, key, scheme, WHAT, context=context, code="sig_tpm")  # 3
    if nonce is not None and not hmac.compare_digest(quote.extra_data, nonce):  # 4
        raise FreshnessError(
            f"{WHAT}: nonce: want {nonce.hex()}, got {quote.extra_data.hex() or 'none'}", code="nonce"
        )
    return _check_values(quote, signature, values, selection)  # 5 to 7


def check_unvouched(message: bytes, signature: Signature, values: Values) -> Checked | None:
    """Check what needs no key: all steps of :func:`check` except 3 and 4. This can refute a quote, but never
    prove it.

    Returns:
        None if a value is missing: that refutes nothing.

    Raises:
        KluisError: as for :func:`check`.
    """
    quote = attest.parse(message)  # 1
    _scheme(signature)  # 2
    if any(_missing(selection, values) for selection in quote.selections):
        return None
    return _check_values(quote, signature, values, None)  # 5 to 7


def _check_values(
    quote: Quote, signature: Signature, values: Values, selection: tuple[Selection, ...] | None
) -> Checked:
    _check_selection(quote, selection)  # 5
    selected = _select(quote, values)  # 6
    _check_digest(quote, signature.hash, selected)  # 7
    return Checked(quote=quote, hash=signature.hash, values=selected)


def check_boot(certified: Clock, quoted: Clock, what: str) -> None:
    """Check that a key was certified in the boot whose PCRs were quoted, by the same attestation key.

    That key outlives a boot. Otherwise another system, which ran on this TPM before, could have its own key
    certified, and a quote of the right system would seem to be about that key. An attestation key may obscure
    both counts, each by one number.

    Args:
        certified: of the certification.
        quoted: of the quote.
        what: names the certification.

    Raises:
        AuthenticityError: it is of another boot.
    """
    want, got = ((each.reset_count, each.restart_count) for each in (quoted, certified))
    if want != got:
        raise AuthenticityError(
            f"{what}: want a key certified in the boot that was quoted, reset {want[0]} and restart"
            f" {want[1]}, got reset {got[0]} and restart {got[1]}",
            hint="certify the key and quote the PCRs in one boot",
            code="key_boot",
        )


def signed_by(message: bytes, signature: Signature, key: bytes, context: Context) -> bool:
    """Whether ``key`` signed the message: steps 2 and 3 of :func:`check`, for one key of several.

    Raises:
        AuthenticityError: the signature's scheme or hash is not allowed, whatever the key.
    """
    scheme, raw = _scheme(signature)
    try:
        signatures.check_raw(raw, message, key, scheme, WHAT, context=context, code="sig_tpm")
    except AuthenticityError:
        return False
    return True


def _scheme(signature: Signature) -> tuple[Scheme, bytes]:
    """The scheme, and the signature in the form that checks take: r and s as long as the curve's field."""
    if isinstance(signature, EcdsaSignature):
        if signature.hash not in _EC:
            raise _weak(signature.hash)
        scheme, size = _EC[signature.hash]
        try:
            halves = [int.from_bytes(n, "big").to_bytes(size, "big") for n in (signature.r, signature.s)]
        except OverflowError:
            raise AuthenticityError(f"{WHAT}: signature is out of range", code="sig_tpm") from None
        return scheme, b"".join(halves)
    known = _RSA.get((signature.scheme, signature.hash))
    if known is None:
        raise _weak(signature.hash)
    return known, signature.value


def _weak(hashed: HashId) -> AuthenticityError:
    return AuthenticityError(
        f"{WHAT}: want a signature over SHA-256, SHA-384 or SHA-512, got {hashed.label}", code="sig_tpm"
    )


def _check_selection(quote: Quote, wanted: tuple[Selection, ...] | None) -> None:
    if not any(any(selection.bitmap) for selection in quote.selections):
        raise AuthenticityError(f"{WHAT}: selects no PCR, so it proves nothing", code="pcr_selection")
    if wanted is None:
        return
    got = {selection.bank.label: selection.indices for selection in quote.selections}
    want = {selection.bank.label: selection.indices for selection in wanted}
    if got != want:
        raise AuthenticityError(f"{WHAT}: PCRs: want {want}, got {got}", code="pcr_selection")


def _select(quote: Quote, values: Values) -> Mapping[HashId, Mapping[int, bytes]]:
    selected: dict[HashId, Mapping[int, bytes]] = {}
    for selection in quote.selections:
        if missing := _missing(selection, values):
            raise AuthenticityError(
                f"{WHAT}: PCRs of {selection.bank.label}: want all that are selected, got none for {missing}",
                code="pcr_selection",
            )
        bank_values = values.get(selection.bank, {})
        selected[selection.bank] = MappingProxyType(
            {index: bank_values[index] for index in selection.indices}
        )
    return MappingProxyType(selected)


def _missing(selection: Selection, values: Values) -> list[int]:
    bank_values = values.get(selection.bank, {})
    return [index for index in selection.indices if index not in bank_values]


def _check_digest(quote: Quote, hashed: HashId, selected: Mapping[HashId, Mapping[int, bytes]]) -> None:
    # The signature's hash, not the bank's: SHA-1 banks are quoted with a SHA-256 digest.
    joined = b"".join(value for bank_values in selected.values() for value in bank_values.values())
    digest = _HASHED[hashed](joined).digest()
    if not hmac.compare_digest(digest, quote.pcr_digest):
        raise AuthenticityError(
            f"{WHAT}: PCR values: want those of {hashed.label}:{quote.pcr_digest.hex()}, got {digest.hex()}",
            code="pcr_digest",
        )
