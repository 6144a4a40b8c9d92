"""One forged case a step of checking a quote under a trusted key."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kluis.errors import AuthenticityError, FormatError, FreshnessError
from kluis.evidence.context import Context
from kluis.evidence.tpm import quote
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.attest import Selection
from kluis.formats.tpm.signature import EcdsaSignature, RsaSignature
from tests.evidence.tpm.forge import SELECTED, VALUES, Tpm, rsa_key, sign, spki
from tests.evidence.tpm.forge import quote as made

LONG = (HashId.SHA256, HashId.SHA384, HashId.SHA512)
MESSAGE = made(VALUES, SELECTED).encode()


@pytest.fixture(scope="module")
def context(tpm: Tpm) -> Context:
    return Context(tpm.named())


def test_true_quotes(tpm: Tpm, context: Context) -> None:
    """RSASSA, RSAPSS and ECDSA, each with the hash that its signature names."""
    curve = ec.generate_private_key(ec.SECP256R1())
    curve384 = ec.generate_private_key(ec.SECP384R1())
    curve521 = ec.generate_private_key(ec.SECP521R1())
    for key, hashed, pss in (
        *((tpm.key, hashed, pss) for hashed in LONG for pss in (False, True)),
        (curve, HashId.SHA256, False),
        (curve384, HashId.SHA384, False),
        (curve521, HashId.SHA512, False),
    ):
        message = made(VALUES, SELECTED, hashed=hashed).encode()
        signed = sign(key, message, hashed, pss=pss)
        checked = quote.check(message, signed, VALUES, spki(key), context=context)
        assert checked.values == {HashId.SHA256: {i: VALUES[HashId.SHA256][i] for i in (0, 1, 7)}}
        assert checked.hash is hashed


def test_short_halves_of_a_signature_are_padded(context: Context) -> None:
    """A TPM may drop the leading zeros of r and s, or keep them, or add some."""
    key = ec.generate_private_key(ec.SECP256R1())
    signed = sign(key, MESSAGE)
    assert isinstance(signed, EcdsaSignature)
    padded = EcdsaSignature(HashId.SHA256, signed.r.rjust(40, b"\0"), signed.s)
    quote.check(MESSAGE, padded, VALUES, spki(key), context=context)


def test_step_1_magic(tpm: Tpm, context: Context) -> None:
    """What a restricted key signs from outside never begins with the TPM's own value, so that is checked."""
    message = b"\xfe" + MESSAGE[1:]
    with pytest.raises(FormatError) as caught:
        quote.check(message, sign(tpm.key, message), VALUES, spki(tpm.key), context=context)
    assert caught.value.code == "bad_magic"


def test_step_1_type(tpm: Tpm, context: Context) -> None:
    """A certified key, or a time, is not a quote, though the TPM signed it."""
    message = MESSAGE[:5] + b"\x17" + MESSAGE[6:]
    with pytest.raises(FormatError) as caught:
        quote.check(message, sign(tpm.key, message), VALUES, spki(tpm.key), context=context)
    assert caught.value.code == "bad_type"


@pytest.mark.parametrize(
    "signature",
    [
        RsaSignature(0x14, HashId.SHA1, bytes(256)),
        RsaSignature(0x16, HashId.SM3, bytes(256)),
        EcdsaSignature(HashId.SHA1, b"r", b"s"),
    ],
)
def test_step_2_hash_of_the_signature(tpm: Tpm, context: Context, signature: RsaSignature) -> None:
    """The evidence names its algorithms, and only those allowed are taken from it."""
    with pytest.raises(AuthenticityError, match="want a signature over SHA-256") as caught:
        quote.check(MESSAGE, signature, VALUES, spki(tpm.key), context=context)
    assert caught.value.code == "sig_tpm"


@pytest.mark.parametrize(
    "signature",
    [
        RsaSignature(0x14, HashId.SHA256, bytes(256)),
        RsaSignature(0x14, HashId.SHA256, b""),
        RsaSignature(0x14, HashId.SHA256, b"\xff" * 256),
        RsaSignature(0x16, HashId.SHA256, bytes(256)),
    ],
)
def test_step_3_rsa(tpm: Tpm, context: Context, signature: RsaSignature) -> None:
    """Zeros, nothing, and more than the modulus are no signature, and break nothing."""
    with pytest.raises(AuthenticityError, match="not signed by the key") as caught:
        quote.check(MESSAGE, signature, VALUES, spki(tpm.key), context=context)
    assert caught.value.code == "sig_tpm"


@pytest.mark.parametrize(
    ("r", "s"), [(b"", b""), (bytes(32), bytes(32)), (b"\xff" * 32, b"\xff" * 32), (b"\1" * 33, b"\1")]
)
def test_step_3_ecdsa(context: Context, r: bytes, s: bytes) -> None:
    """Zero and out of range are no signature, and break nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(AuthenticityError) as caught:
        quote.check(MESSAGE, EcdsaSignature(HashId.SHA256, r, s), VALUES, spki(key), context=context)
    assert caught.value.code == "sig_tpm"


def test_step_3_kind_of_key(tpm: Tpm, context: Context) -> None:
    """A signature of one kind under a key of another is refused, not tried otherwise."""
    curve = ec.generate_private_key(ec.SECP256R1())
    for signer, key in ((tpm.key, curve), (curve, tpm.key)):
        with pytest.raises(AuthenticityError) as caught:
            quote.check(MESSAGE, sign(signer, MESSAGE), VALUES, spki(key), context=context)
        assert caught.value.code == "sig_tpm"


def test_step_3_of_another_tpm(tpm: Tpm, context: Context) -> None:
    """A quote of another TPM is refused, however right it is."""
    other = rsa_key()
    with pytest.raises(AuthenticityError) as caught:
        quote.check(MESSAGE, sign(other, MESSAGE), VALUES, spki(tpm.key), context=context)
    assert caught.value.code == "sig_tpm"
    assert not quote.signed_by(MESSAGE, sign(other, MESSAGE), spki(tpm.key), context)
    assert quote.signed_by(MESSAGE, sign(tpm.key, MESSAGE), spki(tpm.key), context)


@pytest.mark.parametrize("nonce", [b"", b"nonc", b"nonce2", b"NONCE"])
def test_step_4_nonce(tpm: Tpm, context: Context, nonce: bytes) -> None:
    """The nonce is compared whole: neither a beginning of it nor nothing at all will do."""
    signed = sign(tpm.key, MESSAGE)
    quote.check(MESSAGE, signed, VALUES, spki(tpm.key), context=context, nonce=b"nonce")
    with pytest.raises(FreshnessError, match="nonce: want") as caught:
        quote.check(MESSAGE, signed, VALUES, spki(tpm.key), context=context, nonce=nonce)
    assert caught.value.code == "nonce"


@pytest.mark.parametrize(
    "wanted",
    [
        (),
        (Selection.of(HashId.SHA256, 0, 1),),
        (Selection.of(HashId.SHA256, 0, 1, 2, 7),),
        (Selection.of(HashId.SHA384, 0, 1, 7),),
        (*SELECTED, Selection.of(HashId.SHA1, 10)),
    ],
)
def test_step_5_selection(tpm: Tpm, context: Context, wanted: tuple[Selection, ...]) -> None:
    """Fewer PCRs, more, or those of another bank differ from the required ones."""
    signed = sign(tpm.key, MESSAGE)
    quote.check(MESSAGE, signed, VALUES, spki(tpm.key), context=context, selection=SELECTED)
    with pytest.raises(AuthenticityError, match="PCRs: want") as caught:
        quote.check(MESSAGE, signed, VALUES, spki(tpm.key), context=context, selection=wanted)
    assert caught.value.code == "pcr_selection"


@pytest.mark.parametrize("selections", [(), (Selection.of(HashId.SHA256),)])
def test_step_5_selects_nothing(tpm: Tpm, context: Context, selections: tuple[Selection, ...]) -> None:
    """A quote of no PCR is signed, and proves nothing: empty means refused."""
    message = made(VALUES, selections).encode()
    with pytest.raises(AuthenticityError, match="selects no PCR") as caught:
        quote.check(message, sign(tpm.key, message), VALUES, spki(tpm.key), context=context)
    assert caught.value.code == "pcr_selection"


def test_step_6_values_missing(tpm: Tpm, context: Context) -> None:
    """Every selected PCR has a value next to the quote; a missing one is refused, and so is another
    bank's.
    """
    signed = sign(tpm.key, MESSAGE)
    for values in ({HashId.SHA256: {0: bytes(32), 1: bytes(32)}}, {HashId.SHA1: VALUES[HashId.SHA1]}, {}):
        with pytest.raises(AuthenticityError, match="got none for") as caught:
            quote.check(MESSAGE, signed, values, spki(tpm.key), context=context)
        assert caught.value.code == "pcr_selection"


def test_step_7_values_changed(tpm: Tpm, context: Context) -> None:
    """Values that were swapped, or changed, are not those that were quoted."""
    held = VALUES[HashId.SHA256]
    swapped = {HashId.SHA256: {**held, 0: held[1], 1: held[0]}}
    with pytest.raises(AuthenticityError, match="PCR values: want those of sha256") as caught:
        quote.check(MESSAGE, sign(tpm.key, MESSAGE), swapped, spki(tpm.key), context=context)
    assert caught.value.code == "pcr_digest"


def test_step_7_hash_is_the_signatures(tpm: Tpm, context: Context) -> None:
    """A bank of SHA-1 is quoted by a digest of the signature's hash; one by another hash is refused."""
    selections = (Selection.of(HashId.SHA1, 10), Selection.of(HashId.SHA256, 23))
    message = made(VALUES, selections).encode()
    checked = quote.check(message, sign(tpm.key, message), VALUES, spki(tpm.key), context=context)
    assert list(checked.values) == [HashId.SHA1, HashId.SHA256]
    wrong = made(VALUES, SELECTED, hashed=HashId.SHA384).encode()
    with pytest.raises(AuthenticityError) as caught:
        quote.check(wrong, sign(tpm.key, wrong), VALUES, spki(tpm.key), context=context)
    assert caught.value.code == "pcr_digest"


def test_extra_values_are_not_believed(tpm: Tpm, context: Context) -> None:
    """A value that the quote does not select is dropped."""
    checked = quote.check(MESSAGE, sign(tpm.key, MESSAGE), VALUES, spki(tpm.key), context=context)
    assert 23 in VALUES[HashId.SHA256]
    assert sorted(checked.values[HashId.SHA256]) == [0, 1, 7]
    assert HashId.SHA1 not in checked.values
    with pytest.raises(TypeError):
        checked.values[HashId.SHA1] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        checked.values[HashId.SHA256][0] = bytes(32)  # type: ignore[index]
    assert dataclasses.replace(checked, hash=HashId.SHA384).hash is HashId.SHA384
