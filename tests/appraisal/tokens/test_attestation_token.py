"""An attestation token's key, issuer, audience, nonce and time are checked; each step refuses by itself."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.appraisal.tokens import ear, ear_claims, signing, token_keys
from kluis.appraisal.tokens.attestation_token import Expected, Form, Token, verify
from kluis.appraisal.tokens.token_keys import TrustedKey
from kluis.errors import (
    AuthenticityError,
    FormatError,
    FreshnessError,
    KluisError,
    UnsupportedError,
    UsageError,
)
from kluis.formats.encoding import b64, cbor, jcs
from kluis.formats.ietf import cose
from tests.appraisal.tokens.test_signing import P256 as KEY
from tests.appraisal.tokens.test_signing import RESULT, _signed
from tests.services.keyvault.world import AUTHORITY, CERTIFICATE, OTHER_KEY, certificate, claims, jwks, sign
from tests.services.web.issuer import NOW

AT = int(NOW.timestamp())
KEYS = tuple(token_keys.read(json.dumps(jwks()).encode(), certified=False).values())
WANTED = Expected(AUTHORITY, None, None)


def pem(key: ec.EllipticCurvePrivateKey) -> tuple[TrustedKey, ...]:
    """A key as its public half in PEM."""
    data = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return (token_keys.of_pem(data),)


def checked(text: str | bytes, keys: Any = KEYS, wanted: Expected = WANTED, now: datetime = NOW) -> Token:
    """A token that holds."""
    return verify(text.encode() if isinstance(text, str) else text, keys, wanted, now)


def refused(
    kind: type[KluisError],
    text: str | bytes,
    keys: Any = KEYS,
    wanted: Expected = WANTED,
    now: datetime = NOW,
) -> KluisError:
    """What is said of one that does not."""
    with pytest.raises(kind) as error:
        checked(text, keys, wanted, now)
    assert type(error.value) is kind
    return error.value


def test_a_token_of_azures_shape() -> None:
    """Its claims come out as they are, with the key that signed."""
    found = checked(sign(claims()) + "\n")
    assert (found.form, found.ear, found.key.kid) == (Form.AZURE, None, "one")
    assert found.claims == claims()
    assert found.expires_at == datetime.fromtimestamp(AT + 28800, UTC)


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "RS1"}, {"alg": "ES256"}])
def test_an_algorithm_that_is_not_the_keys(header: dict[str, str]) -> None:
    """The key decides: no token is signed by nothing, by a secret, or by another kind of key."""
    error = refused(AuthenticityError, sign(claims(), header))
    assert error.message.endswith(f"got {header['alg']!r}")


def test_keys_that_a_token_brings() -> None:
    """A key, a certificate or an address in the header makes nobody's token hold."""
    other = b64.encode(certificate(OTHER_KEY))
    for header in ({"x5c": [other]}, {"jku": "https://evil.example/certs"}, {"jwk": {"kty": "RSA"}}):
        refused(AuthenticityError, sign(claims(), header, OTHER_KEY))
        refused(AuthenticityError, sign(claims(), header))
    assert refused(AuthenticityError, sign(claims(), {"kid": "two"})).message == (
        "token kid: want one of 'one', got 'two'"
    )


@pytest.mark.parametrize(
    ("said", "wanted", "message"),
    [
        (
            {},
            "https://other.example",
            "token iss: want 'https://other.example', got 'https://attest.example'",
        ),
        (
            {"aud": "you"},
            None,
            "token aud: want --audience to compare it with, got nothing; the token contains 'you'",
        ),
    ],
)
def test_a_claim_that_is_anothers(said: dict[str, Any], wanted: str | None, message: str) -> None:
    """Issuer and audience are named, want and got."""
    expected = Expected(wanted or AUTHORITY, None, None)
    kind = AuthenticityError if wanted else UsageError
    assert refused(kind, sign(claims(**said)), wanted=expected).message == message


def test_an_issuer_that_nobody_wanted() -> None:
    """A token that names its issuer is held to one: leaving it out is no way to take any."""
    error = refused(UsageError, sign(claims()), wanted=Expected(None, None, None))
    assert error.message == (
        "token iss: want --issuer to compare it with, got nothing; the token contains"
        " 'https://attest.example'"
    )
    assert checked(sign(claims()), wanted=Expected("https://ATTEST.example:443/", None, None))


def test_an_audience() -> None:
    """One of several will do; one that is not there, or of another kind, will not."""
    wanted = Expected(AUTHORITY, "me", None)
    for good in ("me", ["you", "me"]):
        assert checked(sign(claims(aud=good)), wanted=wanted)
    for bad in (None, "you", ["you"], [], {"me": 1}, [["me"]]):
        assert refused(AuthenticityError, sign(claims(aud=bad)), wanted=wanted).code == "token_aud"


def test_the_time() -> None:
    """Expired, and not yet: at the second, and within a minute."""
    for late in (AT, AT - 1):
        assert refused(FreshnessError, sign(claims(exp=late))).code == "token_expired"
    assert checked(sign(claims(iat=AT + 60, nbf=AT + 60)))
    for early in ({"nbf": AT + 61}, {"iat": AT + 61}):
        assert refused(FreshnessError, sign(claims(**early))).code == "token_not_yet_valid"
    last = ear_claims.MAX_TIME
    assert checked(sign(claims(iat=0, nbf=0, exp=last))).expires_at.year == 9999
    for bad in (
        {"exp": None},
        {"exp": "1"},
        {"iat": True},
        {"iat": -1},
        {"nbf": -1},
        {"exp": last + 1},
        {"exp": 1 << 60},
    ):
        refused(FormatError, sign(claims(**bad)))
    refused(UsageError, sign(claims()), now=NOW.replace(tzinfo=None))


def test_the_last_moments() -> None:
    """At the end of the calendar a token has expired, whatever its form."""
    last = datetime.max.replace(tzinfo=UTC)
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    for signed in (signing.sign_jwt(made, KEY), signing.sign_cwt(made, KEY)):
        assert refused(FreshnessError, signed, pem(KEY), Expected(None, None, None), last)
    assert refused(FreshnessError, sign(claims()), now=last)
    endless = dataclasses.replace(made, expires_at=None)
    with pytest.raises(FormatError):
        checked(signing.sign_jwt(endless, KEY), pem(KEY), Expected(None, None, None), last)


def test_a_nonce() -> None:
    """The one that was given, as text or as a number, and no other."""
    for held in ("12345", 12345):
        assert checked(sign(claims(nonce=held)), wanted=Expected(AUTHORITY, None, "12345"))
        error = refused(AuthenticityError, sign(claims(nonce=held)), wanted=Expected(AUTHORITY, None, "1234"))
        assert error.code == "token_nonce"
    missing = refused(AuthenticityError, sign(claims()), wanted=Expected(AUTHORITY, None, "12345"))
    assert missing.message == "token nonce: want '12345', got none"


@pytest.mark.parametrize("held", [True, None, 1.0, ["1"], {"1": 1}])
def test_a_nonce_of_another_kind(held: object) -> None:
    """Only text and whole numbers are nonces, whatever they look like."""
    for wanted in ("1", "True", "1.0", str(held)):
        error = refused(AuthenticityError, sign(claims(nonce=held)), wanted=Expected(AUTHORITY, None, wanted))
        assert error.code == "token_nonce"


def test_a_nonce_that_is_no_text() -> None:
    """Bytes of a command line that are no text are an EAR's nonce where they are its bytes, else nobody's."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    (held,) = made.submods.values()
    nonce = bytes(range(0x78, 0x88))
    signed = signing.sign_jwt(
        dataclasses.replace(made, submods={"sgx": dataclasses.replace(held, nonce=nonce)}), KEY
    )
    wanted = nonce.decode("utf-8", "surrogateescape")
    assert verify(signed.encode(), pem(KEY), Expected(None, None, wanted), NOW)
    for other in (wanted, wanted[:-1], "\ud800"):
        error = refused(AuthenticityError, sign(claims(nonce="é")), wanted=Expected(AUTHORITY, None, other))
        assert error.code == "token_nonce"


def test_a_nonce_in_hex() -> None:
    """An EAR's nonce is given in hex, of either case, or as the text that it is; every submod has it."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    (held,) = made.submods.values()

    def signed(*nonces: bytes | None) -> bytes:
        submods = {str(n): dataclasses.replace(held, nonce=nonce) for n, nonce in enumerate(nonces)}
        return signing.sign_jwt(dataclasses.replace(made, submods=submods), KEY).encode()

    for nonces, wanted, good in (
        ([b"\xab" * 8], "ab" * 8, True),
        ([b"\xab" * 8], "AB" * 8, True),
        ([b"\xab" * 8], "ab" * 8 + "a", False),
        ([b"abababab"], "abababab", True),
        ([b"no hexes"], "no hexes", True),
        ([b"\xab" * 8] * 2, "ab" * 8, True),
        ([b"\xab" * 8, b"\xac" * 8], "ab" * 8, False),
        ([b"\xac" * 8, b"\xab" * 8], "ab" * 8, False),
        ([b"\xab" * 8, None], "ab" * 8, False),
    ):
        expected = Expected(None, None, wanted)
        if good:
            assert verify(signed(*nonces), pem(KEY), expected, NOW)
        else:
            told = ", ".join("none" if each is None else each.hex() for each in nonces)
            error = refused(AuthenticityError, signed(*nonces), pem(KEY), expected)
            assert (error.code, error.message) == ("token_nonce", f"token nonce: want {wanted!a}, got {told}")


def test_what_a_service_says_of_its_policies() -> None:
    """The same key signs it, and it is nobody's attestation."""
    said = claims(**{"x-ms-attestation-type": None, "x-ms-policy-result": "PolicyPresent"})
    assert refused(FormatError, sign(said)).code == "token_kind"


def test_an_ear() -> None:
    """An EAR as JWT or CWT is read, under the key in a JWKS or in PEM."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    nobody = Expected(None, None, None)
    document = json.dumps({"keys": [json.loads(signing.jwk(KEY.public_key()))]}).encode()
    for keys in (pem(KEY), tuple(token_keys.read(document, certified=False).values())):
        for signed, form in (
            (signing.sign_jwt(made, KEY).encode(), Form.EAR_JWT),
            (signing.sign_cwt(made, KEY), Form.EAR_CWT),
        ):
            found = verify(signed, keys, nobody, NOW)
            assert (found.form, found.ear, found.expires_at) == (form, made, NOW + timedelta(minutes=5))
            assert (
                refused(AuthenticityError, signed, keys, Expected(AUTHORITY, None, None)).code == "token_iss"
            )
            assert (
                refused(FreshnessError, signed, keys, nobody, NOW + timedelta(hours=1)).code
                == "token_expired"
            )
            (held,) = made.submods.values()
            assert held.nonce is not None
            assert verify(signed, keys, Expected(None, None, held.nonce.hex()), NOW)
            assert (
                refused(AuthenticityError, signed, keys, Expected(None, None, "00" * 16)).code
                == "token_nonce"
            )
            other = pem(ec.generate_private_key(ec.SECP256R1()))
            assert refused(AuthenticityError, signed, other, nobody).code == "sig_token"


def _named(*names: str) -> tuple[TrustedKey, ...]:
    """New keys with these names; the last is the one that signs."""
    others = [ec.generate_private_key(ec.SECP256R1()) for _ in names[1:]]
    return tuple(
        TrustedKey(name, key.public_key(), None, None)
        for name, key in zip(names, [*others, KEY], strict=True)
    )


def _ear(header: dict[str, Any], more: dict[str, Any] | None = None) -> bytes:
    """An EAR under whatever header."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    said = {**ear_claims.write(made, numbers=False), **(more or {})}
    return _signed({"alg": "ES256", **header}, said).encode()


def _ear_cwt(protected: object, unprotected: object, more: dict[int, Any] | None = None) -> bytes:
    """An EAR as a CWT, whose key is named in either header."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    said = {**ear_claims.write(made, numbers=True), **(more or {})}
    headers: Any = {} if protected is None else {4: protected}
    signed, _, *rest = cbor2.loads(cose.sign1(cbor.dumps(said), KEY, headers)).value
    return cbor2.dumps(cbor2.CBORTag(18, [signed, {} if unprotected is None else {4: unprotected}, *rest]))


NOBODY = Expected(None, None, None)


def test_which_of_several_keys() -> None:
    """The key that a token names; one without a name is good for any token where it is the only one."""
    two = _named("one", "two")
    for found in (
        verify(_ear({"kid": "two"}), two, NOBODY, NOW),
        verify(_ear_cwt(b"two", None), two, NOBODY, NOW),
        verify(_ear_cwt(None, b"two"), two, NOBODY, NOW),
    ):
        assert found.key.kid == "two"
    for keys in (_named("one"), _named("")):
        for data in (_ear({}), _ear_cwt(None, None), _ear_cwt("no bytes", None)):
            assert verify(data, keys, NOBODY, NOW).key is keys[0]
    assert verify(_ear({"kid": "any"}), _named(""), NOBODY, NOW).key.kid == ""
    assert verify(_ear_cwt(b"\xff", None), _named("", "\xff"), NOBODY, NOW).key.kid == "\xff"


def test_azures_token_among_several_keys() -> None:
    """The signing key is reported, whichever of several it is."""
    other = token_keys.TrustedKey("two", OTHER_KEY.public_key(), None, None)
    for keys in ((*KEYS, other), (other, *KEYS)):
        assert checked(sign(claims()), keys).key is KEYS[0]
        assert checked(sign(claims(), {"kid": "two"}, OTHER_KEY), keys).key is other


@pytest.mark.parametrize(
    ("names", "kid", "told"),
    [
        (("one", "two"), "one", None),
        (("one",), "two", "token kid: want one of 'one', got 'two'"),
        (("one", "two"), "three", "token kid: want one of 'one', 'two', got 'three'"),
        (("one", "two"), None, "token kid: want one of 'one', 'two', got none"),
        (("", ""), "one", "token kid: want one of '', '', got 'one'"),
        (("", "x" * 65), None, f"token kid: want one of '', '{'x' * 64}', got none"),
        (
            tuple(map(str, range(9))),
            None,
            "token kid: want one of '0', '1', '2', '3', '4', '5', '6', '7', got none",
        ),
    ],
)
def test_none_of_several_keys(names: tuple[str, ...], kid: str | None, told: str | None) -> None:
    """Another key than the one that signed, none of that name, or several where none is named."""
    keys = _named(*names)
    for data in (
        _ear({} if kid is None else {"kid": kid}),
        _ear_cwt(None if kid is None else kid.encode(), None),
    ):
        error = refused(AuthenticityError, data, keys, NOBODY)
        assert (error.code, error.message) == ("token_kid", told) if told else error.code == "sig_token"


def test_what_makes_an_ear() -> None:
    """Its type or its profile makes a token an EAR, that is read as one and as nothing else."""
    for data in (_ear({}), _ear({"typ": signing.JWT_TYPE})):
        assert verify(data, pem(KEY), NOBODY, NOW).form is Form.EAR_JWT
    assert refused(FormatError, sign(claims(), {"typ": signing.JWT_TYPE})).message == (
        "EAR.eat_profile: want a value of type str, got none"
    )
    assert refused(UnsupportedError, sign(claims(eat_profile="another"))).code == "bad_version"
    for typ in ("jwt", "JWT", "zzz"):
        assert checked(sign(claims(), {"typ": typ})).form is Form.AZURE


@pytest.mark.parametrize("kind", ["", None, 1, True, ["sevsnpvm"], {"a": "b"}])
def test_a_kind_that_is_none(kind: object) -> None:
    """Claims say in a text of what they are an attestation."""
    assert refused(FormatError, sign(claims(**{"x-ms-attestation-type": kind}))).code == "token_kind"


def test_names_of_a_cwts_claims() -> None:
    """Claims of a CWT have the names of a JWT where it has them, and their numbers in text else."""
    found = verify(_ear_cwt(None, None, {1: "them", 77: "x"}), pem(KEY), Expected("them", None, None), NOW)
    assert found.claims["iss"] == "them"
    assert found.claims["77"] == "x"
    assert {"exp", "iat"} < set(found.claims)
    assert all(type(name) is str for name in found.claims)


def test_an_issuer_is_one() -> None:
    """An audience may be one of several; an issuer is a text."""
    for wrong in (["them"], {"them": 1}, b"them", 1):
        error = refused(
            AuthenticityError, _ear_cwt(None, None, {1: wrong}), pem(KEY), Expected("them", None, None)
        )
        assert error.code == "token_iss"
    assert verify(_ear({}, {"aud": ["you", "me"]}), pem(KEY), Expected(None, "me", None), NOW)


@pytest.mark.parametrize(
    ("issuer", "same"),
    [
        (AUTHORITY, True),
        (f"{AUTHORITY.replace('attest', 'ATTEST')}:443/", True),
        (AUTHORITY.replace("attest", "a"), False),
        (AUTHORITY.replace("attest", "z"), False),
        (f"{AUTHORITY}/x", False),
        ("attest", False),
        ("", False),
    ],
)
def test_an_ears_issuer(issuer: str, same: bool) -> None:
    """An EAR's issuer is held to the one that is wanted, as URLs are compared, or as text."""
    for wanted, got in ((AUTHORITY, issuer), (issuer, AUTHORITY)):
        expected = Expected(wanted, None, None)
        if same:
            assert verify(_ear({}, {"iss": got}), pem(KEY), expected, NOW)
        else:
            assert refused(AuthenticityError, _ear({}, {"iss": got}), pem(KEY), expected).code == "token_iss"
    plain = Expected("a name", issuer, None)
    assert verify(_ear({}, {"iss": "a name", "aud": issuer}), pem(KEY), plain, NOW)
    if issuer != AUTHORITY:
        # Only an issuer is compared as URLs are.
        other = Expected(None, AUTHORITY, None)
        assert refused(AuthenticityError, _ear({}, {"aud": issuer}), pem(KEY), other).code == "token_aud"


def test_an_ear_that_never_ends_or_is_for_somebody() -> None:
    """A CWT's claims are held to the same by number; without an end it is not taken."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    said = ear_claims.write(made, numbers=True)
    nobody = Expected(None, None, None)

    def signed(more: dict[int, Any]) -> bytes:
        value = {name: each for name, each in {**said, **more}.items() if each is not None}
        headers: dict[int | str, cbor.Writable] = {16: signing.CWT_TYPE}
        return cose.sign1(cbor.dumps(value), KEY, headers)

    assert verify(signed({}), pem(KEY), nobody, NOW)
    refused(FormatError, signed({4: None}), pem(KEY), nobody)
    refused(UsageError, signed({3: "you"}), pem(KEY), nobody)
    refused(UsageError, signed({1: "them"}), pem(KEY), nobody)
    refused(FreshnessError, signed({5: AT + 61}), pem(KEY), nobody)
    assert verify(signed({1: "them", 3: "you"}), pem(KEY), Expected("them", "you", None), NOW)
    no_curve = refused(AuthenticityError, signed({}), KEYS, nobody)
    assert no_curve.message.startswith("CWT: want the key of")
    assert no_curve.code == "sig_token"
    other = refused(AuthenticityError, signed({1: "them"}), pem(KEY), Expected("others", None, None))
    assert other.code == "token_iss"
    no_hex = Expected(None, None, "it is text")
    assert refused(AuthenticityError, signed({}), pem(KEY), no_hex).code == "token_nonce"


@pytest.mark.parametrize("members", [{"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": "verify"}])
def test_a_key_that_its_authority_does_not_sign_with(members: dict[str, Any]) -> None:
    """A key of the same document that is for opening verifies no token: its other half may be anybody's."""
    keys = tuple(token_keys.read(json.dumps(jwks(**members)).encode(), certified=False).values())
    error = refused(AuthenticityError, sign(claims()), keys)
    assert error.message == "token alg: want none of this key, got 'RS256'"
    for said in ({"use": "sig"}, {"key_ops": ["sign", "verify"]}):
        good = token_keys.read(json.dumps(jwks(**said)).encode(), certified=False)
        assert checked(sign(claims()), tuple(good.values()))


def test_an_ear_by_another_algorithm_than_its_key_names() -> None:
    """Where the key's document names an algorithm, or a use that is not signing, an EAR is held to it."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    for members in ({"alg": "ES384"}, {"use": "enc"}):
        document = {"keys": [{**json.loads(signing.jwk(KEY.public_key())), **members}]}
        keys = tuple(token_keys.read(json.dumps(document).encode(), certified=False).values())
        for signed in (signing.sign_jwt(made, KEY), signing.sign_cwt(made, KEY)):
            error = refused(AuthenticityError, signed, keys, Expected(None, None, None))
            assert error.message == "token alg: want none of this key, got 'ES256'"


def test_a_claim_in_text_is_not_the_numbers() -> None:
    """In a CWT, text that reads like the name of a claim takes the place of none."""
    said = ear_claims.write(
        ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5)), numbers=True
    )
    for more in ({1: "them", "iss": "others"}, {"iss": "others", 1: "them"}):
        signed = cose.sign1(cbor.dumps({**said, **more}), KEY, {16: signing.CWT_TYPE})
        assert verify(signed, pem(KEY), Expected("them", None, None), NOW).claims["iss"] == "them"
        assert (
            refused(AuthenticityError, signed, pem(KEY), Expected("others", None, None)).code == "token_iss"
        )


def test_a_claim_in_text_alone_is_none() -> None:
    """In a CWT, text that reads like the name of a claim is not that claim where the claim is missing."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    said = {**ear_claims.write(made, numbers=True), "iss": "them", "aud": "us"}
    signed = cose.sign1(cbor.dumps(said), KEY, {16: signing.CWT_TYPE})
    for wanted in (Expected("them", None, None), Expected(None, "us", None)):
        assert refused(AuthenticityError, signed, pem(KEY), wanted).code in ("token_iss", "token_aud")
    endless = {label: each for label, each in said.items() if label != 4} | {"exp": said[4]}
    signed = cose.sign1(cbor.dumps(endless), KEY, {16: signing.CWT_TYPE})
    assert refused(FormatError, signed, pem(KEY), Expected(None, None, None)).message.startswith("token exp")


def test_what_is_no_token() -> None:
    """Malformed text, malformed bytes, and overlong input are refused."""
    for junk in (b"", b"a.b", b"\xff\x00", b"a.b.c", b"{}", b"a" * 200_000 + b"..", jcs.dumps({"a": 1})):
        refused(FormatError, junk)


def test_one_key_in_pem() -> None:
    """A certificate's key signs with any name; a file that is neither certificate nor key is refused."""
    from kluis.formats import x509

    found = token_keys.of_pem(x509.write_pem(CERTIFICATE))
    assert found.certificate == CERTIFICATE
    assert checked(sign(claims(), {"kid": "anything"}), (found,))
    with pytest.raises(FormatError, match="want a certificate or a public key in PEM"):
        token_keys.of_pem(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
