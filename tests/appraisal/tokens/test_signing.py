"""Attestation results as JWT and CWT: written, read back, and each step of their verifiers failed alone."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from kluis import __version__
from kluis.appraisal import ANY, Aspect, AttestationResult, ByTable, ReportDataBinding, Tier, dumps
from kluis.appraisal.policy.model import Release
from kluis.appraisal.policy.structured import Registers
from kluis.appraisal.policy.tees import TABLES
from kluis.appraisal.policy.wants import OneOf
from kluis.appraisal.tokens import ear, ear_claims, signing
from kluis.appraisal.tokens.ear import Appraisal, Ear
from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError, PolicyError, UsageError
from kluis.evidence.levels import MEANINGS
from kluis.evidence.model import TcbStatus, Tee
from kluis.formats.encoding import b64, cbor, jcs
from kluis.formats.ietf import cose
from tests.appraisal.rules.test_appraise import NOW, _evidence, _judge, _policy
from tests.appraisal.samples import TDX
from tests.evidence.forge import IMAGE, SIGNER
from tests.keys import rsa_key
from tests.strategies import PROPERTY, mutations

P256, P384, P521 = (
    ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
)
RESULT: AttestationResult = _judge()
EAR = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
JWT, CWT = signing.sign_jwt(EAR, P256), signing.sign_cwt(EAR, P384)


def _parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, payload, _ = (base64.urlsafe_b64decode(part + "==") for part in text.split("."))
    return json.loads(header), json.loads(payload)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed(header: Any, payload: Any, key: ec.EllipticCurvePrivateKey = P256) -> str:
    """A JWT of anything, signed as it should be."""
    texts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, payload)]
    text = ".".join(map(_b64, texts))
    size = key.curve.key_size // 8
    algorithm = hashes.SHA256() if size == 32 else hashes.SHA384()
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(algorithm)))
    return f"{text}.{_b64(r.to_bytes(size) + s.to_bytes(size))}"


def test_what_it_says() -> None:
    """The claims are the result's: status, vector, policy, nonce, level and what it does not keep out."""
    header, claims = _parts(JWT)
    assert header == {"alg": "ES256", "typ": "eat+jwt", "kid": signing.key_id(P256.public_key())}
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert claims["iat"] == int(NOW.timestamp())
    assert claims["exp"] == claims["iat"] + 300
    assert claims["ear_verifier_id"] == {"developer": "Kluis", "build": ear.BUILD}
    assert claims["ear_status"] == "warning"
    (label, appraisal), *_ = claims["submods"].items()
    assert label == "sgx"
    assert appraisal["ear_trustworthiness_vector"] == {
        "configuration": 2,
        "executables": 3,
        "hardware": 2,
        "runtime-opaque": 32,
    }
    assert appraisal["eat_nonce"] == _b64(RESULT.runtime_data.nonce if RESULT.runtime_data else b"")
    assert appraisal["ear_appraisal_policy_ids"] == [ear.policy_id(RESULT)]
    assert appraisal["ear_attester_claims"]["measurement"] == str(RESULT.claims.measurement)
    told = appraisal["ear_verifier_claims"]
    assert told["protection"] == "process"
    assert told["not_kept_out"] == list(MEANINGS[RESULT.claims.level].lets_in)
    assert [rule["name"] for rule in told["rules"]] == [rule.name for rule in RESULT.rules]


def _id(**changes: Any) -> str:
    changed = dataclasses.replace(RESULT.policy, **changes)
    return ear.policy_id(dataclasses.replace(RESULT, policy=changed))


def test_a_policys_id_is_its_documents() -> None:
    """Of a policy that a document says whole, the id is that document's hash."""
    document = dumps(RESULT.policy).encode()
    assert ear.policy_id(RESULT) == f"ni:///sha-256;{_b64(hashlib.sha256(document).digest())}"


def test_a_policys_id_covers_each_rule() -> None:
    """What changes a verdict changes the id, whether a document has a key for it or not; a name does not."""
    tables = ByTable(tables={tee: {field.key: ANY for field in TABLES[tee]} for tee in (Tee.SGX, Tee.TDX)})
    code = {n: OneOf(frozenset({bytes([n]) * 32})) for n in (1, 2, 3)}
    one, two, three = (Release(name=f"release {n}", wants={"measurements": want}) for n, want in code.items())
    register = Release(name="release 1", wants={"registers": Registers({"pcr0": frozenset({b"\1" * 32})})})

    def of(**releases: tuple[Release, ...]) -> str:
        given = {Tee(tee): each for tee, each in releases.items()}
        return _id(identity=dataclasses.replace(tables, releases=given))

    different = [
        of(),
        of(sgx=(one, two)),
        of(sgx=(one, three)),
        of(tdx=(one, register)),
        of(sgx=(one, two, three)),
        of(tdx=(one, two)),
        of(sgx=(one, two), tdx=(one, two)),
        _id(),
        _id(denylists=True),
        _id(min_tcb_date=date(2026, 1, 1)),
        _id(min_tcb_date=date(2026, 1, 2)),
        _id(max_collateral_age=timedelta(days=30, hours=1)),
        _id(max_collateral_age=timedelta(days=30, hours=2)),
        _id(max_collateral_age=ANY),
        _id(max_evidence_age=timedelta(minutes=5, milliseconds=1)),
        _id(max_evidence_age=timedelta(minutes=5, milliseconds=2)),
    ]
    assert len(set(different)) == len(different)
    assert of(sgx=()) == of()
    assert of(sgx=(two, one)) == of(sgx=(one, two)) == of(sgx=(one, dataclasses.replace(two, name="other")))


def test_cwt_says_the_same_in_numbers() -> None:
    """The CWT has the registered labels, and another reader of CBOR reads them."""
    message = cbor2.loads(CWT)
    assert message.tag == 18
    claims = cbor2.loads(message.value[2])
    assert claims[265] == ear.PROFILE
    assert claims[1000] == 32
    assert claims[1004] == {0: "Kluis", 1: ear.BUILD}
    assert claims[266]["sgx"][1001] == {1: 2, 2: 3, 4: 2, 5: 32}
    assert claims[266]["sgx"][10] == (RESULT.runtime_data.nonce if RESULT.runtime_data else None)


@pytest.mark.parametrize(("key", "alg", "number"), [(P256, "ES256", -7), (P384, "ES384", -35)])
def test_headers(key: ec.EllipticCurvePrivateKey, alg: str, number: int) -> None:
    """A token names its algorithm, its verifier's key and its type, in what is signed."""
    name = signing.key_id(key.public_key())
    header, _ = _parts(signing.sign_jwt(EAR, key))
    assert header == {"alg": alg, "kid": name, "typ": "eat+jwt"}
    protected, unprotected, *_ = cbor2.loads(signing.sign_cwt(EAR, key)).value
    assert cbor2.loads(protected) == {
        1: number,
        4: name.encode(),
        16: 'application/eat+cwt; eat_profile="tag:ietf.org,2026:rats/ear#04"',
    }
    assert unprotected == {}


@pytest.mark.parametrize("key", [P256, P384], ids=["P-256", "P-384"])
def test_verified(key: ec.EllipticCurvePrivateKey) -> None:
    """A relying party with the verifier's key reads what the verifier wrote."""
    for text in (signing.sign_jwt(EAR, key), signing.sign_jwt(EAR, key).encode()):
        assert signing.verify_jwt(text, key.public_key(), now=NOW) == EAR
    assert signing.verify_cwt(signing.sign_cwt(EAR, key), key.public_key(), now=NOW) == EAR
    appraisal = EAR.submods["sgx"]
    assert appraisal.protection == "process"
    assert appraisal.not_kept_out == MEANINGS[RESULT.claims.level].lets_in


def test_all_that_an_ear_tells() -> None:
    """All that is told of evidence, and of each rule; times are UTC, to the second; it cannot be changed."""
    result = _judge(nonce=b"another nonce")
    zone = timezone(timedelta(hours=2))
    made = ear.of(
        result,
        issued_at=NOW.astimezone(zone) + timedelta(microseconds=1),
        expires_at=NOW.astimezone(zone) + timedelta(minutes=5, microseconds=2),
    )
    claims = result.claims
    assert (made.issued_at, made.expires_at) == (NOW, NOW + timedelta(minutes=5))
    assert (made.issued_at.tzinfo, made.expires_at and made.expires_at.tzinfo) == (UTC, UTC)
    assert (made.developer, made.build, list(made.submods)) == ("Kluis", f"kluis {__version__}", ["sgx"])
    assert type(next(iter(made.submods))) is str
    appraisal = made.submods["sgx"]
    assert result.runtime_data is not None
    assert (appraisal.status, appraisal.policy_ids, appraisal.nonce) == (
        Tier.CONTRAINDICATED,
        (ear.policy_id(result),),
        result.runtime_data.nonce,
    )
    assert appraisal.attester == {
        "kind": "SGX quote v3",
        "debug": False,
        "measurement": f"sha256:{IMAGE.hex()}",
        "signer": f"sha256:{SIGNER.hex()}",
        "product_id": 7,
        "svn": 3,
        "registers": {},
        "report_data": claims.report_data.hex(),
    }
    assert appraisal.verifier == {
        "protection": "process",
        "not_kept_out": list(result.not_kept_out),
        "warnings": [],
        "anchor": claims.anchor,
        "product": claims.platform.product,
        "tcb_status": "UpToDate",
        "advisories": [],
        "rules": [
            {"name": rule.name, "ok": rule.ok, "want": rule.want, "got": rule.got} for rule in result.rules
        ],
    }
    assert {type(appraisal.verifier[name]) for name in ("protection", "tcb_status")} == {str}
    for held in (made.submods, appraisal.attester, appraisal.verifier):
        with pytest.raises(TypeError):
            held["x"] = 1  # type: ignore[index]


def test_what_an_ear_tells_of_other_evidence() -> None:
    """Registers are told by name, warnings and advisories in order, and a nonce that has a place."""
    claims = dataclasses.replace(
        TDX,
        nonce=b"\7" * 64,
        tcb=dataclasses.replace(
            TDX.tcb, status=TcbStatus.OUT_OF_DATE, advisories=("INTEL-SA-1", "INTEL-SA-2")
        ),
    )
    result = dataclasses.replace(RESULT, claims=claims, runtime_data=None, warnings=("one", "two"))
    appraisal = ear.of(result, issued_at=NOW, expires_at=NOW + timedelta(minutes=5)).submods["tdx"]
    assert appraisal.attester["registers"] == {
        f"rtmr{index}": f"sha384:{bytes((index + 1,)).hex() * 48}" for index in range(4)
    }
    assert appraisal.attester["signer"] is None
    assert (appraisal.verifier["tcb_status"], appraisal.verifier["advisories"]) == (
        "OutOfDate",
        ["INTEL-SA-1", "INTEL-SA-2"],
    )
    assert (appraisal.verifier["warnings"], appraisal.nonce) == (["one", "two"], b"\7" * 64)
    for size, told in ((0, False), (7, False), (8, True), (65, False)):
        sized = dataclasses.replace(result, claims=dataclasses.replace(claims, nonce=bytes(size)))
        made = ear.of(sized, issued_at=NOW, expires_at=NOW + timedelta(minutes=5)).submods["tdx"]
        assert made.nonce == (bytes(size) if told else None)


def test_long_texts_are_cut() -> None:
    """What a rule wants and has is told in 512 characters, and what is longer ends in dots."""
    rules = tuple(
        dataclasses.replace(RESULT.rules[0], want="w" * size, got="g" * size) for size in (511, 512, 513)
    )
    made = ear.of(
        dataclasses.replace(RESULT, rules=rules), issued_at=NOW, expires_at=NOW + timedelta(minutes=5)
    )
    assert made.submods["sgx"].verifier["rules"] == [
        {"name": "tee", "ok": True, "want": f"{'w' * size}{end}", "got": f"{'g' * size}{end}"}
        for size, end in ((511, ""), (512, ""), (512, ".."))
    ]


def test_a_token_that_would_expire_at_once() -> None:
    """A token holds for a second at least."""
    with pytest.raises(UsageError, match="want it to expire after"):
        ear.of(RESULT, issued_at=NOW, expires_at=NOW)


def test_a_token_is_small_whatever_the_policy_lists() -> None:
    """A rule's text is cut, so that a relying party can read every token that is made."""
    rules = (dataclasses.replace(RESULT.rules[0], want="x" * 100_000), *RESULT.rules[1:])
    made = ear.of(
        dataclasses.replace(RESULT, rules=rules), issued_at=NOW, expires_at=NOW + timedelta(minutes=5)
    )
    assert signing.verify_jwt(signing.sign_jwt(made, P256), P256.public_key(), now=NOW) == made
    assert len(signing.sign_cwt(made, P256)) < 8192


def test_without_details() -> None:
    """Contents of the evidence can be left out; the level and what it lets in cannot."""
    bare = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5), details=False)
    appraisal = bare.submods["sgx"]
    assert appraisal.attester == {}
    assert set(appraisal.verifier) == {"protection", "not_kept_out", "warnings"}
    assert signing.verify_jwt(signing.sign_jwt(bare, P256), P256.public_key(), now=NOW) == bare


def test_nothing_outlives_its_endorsements() -> None:
    """A token expires when the evidence's endorsements do, and none is made after that."""
    long = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(days=365))
    assert long.expires_at == RESULT.claims.valid_until
    with pytest.raises(UsageError, match="want it to expire after"):
        ear.of(RESULT, issued_at=NOW + timedelta(days=365), expires_at=NOW + timedelta(days=366))


def test_a_nonce_of_a_size_that_ear_has_no_place_for() -> None:
    """A nonce of less than 8 bytes, or none, is left out."""
    foreign = _judge(policy=_policy(binding=ReportDataBinding(report_data=_evidence().value.report_data)))
    made = ear.of(foreign, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    assert made.submods["sgx"].nonce is None
    assert signing.verify_cwt(signing.sign_cwt(made, P256), P256.public_key(), now=NOW) == made


def test_require() -> None:
    """A relying party goes on with the tiers it names, or affirming alone; an EAR is no condition."""
    EAR.require(Tier.AFFIRMING, Tier.WARNING)
    with pytest.raises(PolicyError) as caught:
        EAR.require()
    assert str(caught.value) == "attestation result: want affirming, got warning (sgx warning)"
    assert caught.value.code == "ear_status"
    more = dict.fromkeys(("tdx", "sgx"), EAR.submods["sgx"])
    with pytest.raises(PolicyError, match=r"got warning \(sgx warning, tdx warning\)(?m:$)"):
        dataclasses.replace(EAR, submods=more).require(Tier.AFFIRMING, Tier.NONE)
    with pytest.raises(TypeError, match="no truth value"):
        bool(EAR)


def test_the_status_is_never_better_than_a_submods_vector() -> None:
    """A token whose vector is worse than the status it claims has the worse one."""
    lying = dataclasses.replace(EAR.submods["sgx"], status=Tier.AFFIRMING, vector={Aspect.HARDWARE: 96})
    assert dataclasses.replace(EAR, submods={"sgx": lying}).status is Tier.CONTRAINDICATED


@pytest.mark.parametrize("number", [0, 1, -1])
def test_an_aspect_without_a_claim_makes_nothing_worse(number: int) -> None:
    """A zero is as good as no number, as other verifiers write; one that tells of trouble is not."""
    vector = {aspect: number if aspect is Aspect.SOURCED_DATA else 2 for aspect in Aspect}
    claimed = dataclasses.replace(EAR.submods["sgx"], status=Tier.AFFIRMING, vector=vector)
    told = ear_claims.write(dataclasses.replace(EAR, submods={"sgx": claimed}), numbers=False)
    read = ear_claims.read(told, numbers=False)
    assert read.status is (Tier.NONE if number else Tier.AFFIRMING)
    assert read.submods["sgx"].vector == vector


@pytest.mark.parametrize("numbers", [False, True])
def test_what_a_verifier_says_of_all_together(numbers: bool) -> None:
    """An overall status that is worse than each submod's holds; a better one makes nothing better."""
    for stated in Tier:
        name = ear_claims.LABELS["ear_status"] if numbers else "ear_status"
        said = ear_claims.write(EAR, numbers=numbers)
        read = ear_claims.read({**said, name: stated.number if numbers else str(stated)}, numbers=numbers)
        assert read.status is min(stated, EAR.status, key=list(Tier).index)
    want = "96, 32, 0, 2, got '7'" if numbers else "contraindicated, warning, none, affirming, got 'fine'"
    with pytest.raises(FormatError, match=f"EAR.ear_status: want one of {want}$"):
        ear_claims.read({**said, name: 7 if numbers else "fine"}, numbers=numbers)
    del said[name]
    assert ear_claims.read(said, numbers=numbers) == EAR


HEADER, CLAIMS = _parts(JWT)


def _claims(**changes: Any) -> str:
    return _signed(HEADER, {**CLAIMS, **changes})


def _submod(**changes: Any) -> str:
    return _claims(submods={"sgx": {**CLAIMS["submods"]["sgx"], **changes}})


CWT_CLAIMS = ear_claims.write(EAR, numbers=True)
SMALL: dict[str, Any] = {"ear_trustworthiness_vector": {}}

# name: token, error, code
FORGED: dict[str, tuple[Callable[[], str], type[KluisError], str]] = {
    "1 two parts": (lambda: JWT.rpartition(".")[0], FormatError, "bad_length"),
    "1 large": (lambda: JWT + "A" * signing.MAX_SIZE, FormatError, "bad_length"),
    "1 large and of many parts": (lambda: "." * (64 << 20), FormatError, "bad_length"),
    "1 four parts": (lambda: JWT + ".A", FormatError, "bad_length"),
    "1 one byte too many": (lambda: _sized(signing.MAX_SIZE + 1), FormatError, "bad_length"),
    "1 a deep header": (lambda: _signed({**HEADER, "kid": [[1]]}, CLAIMS), FormatError, "too_deep"),
    "1 a type that is greater": (lambda: _signed({**HEADER, "typ": "jwt"}, CLAIMS), FormatError, "bad_type"),
    "1 a type that is no text": (lambda: _signed({**HEADER, "typ": None}, CLAIMS), FormatError, "bad_type"),
    "1 padding": (lambda: JWT + "=", FormatError, "bad_encoding"),
    "1 no text": (lambda: "\udc80.a.b", FormatError, "bad_encoding"),
    "1 a header that is no object": (lambda: _signed([], CLAIMS), FormatError, "bad_type"),
    "1 a header with a key of its own": (
        lambda: _signed({**HEADER, "jwk": {}}, CLAIMS),
        FormatError,
        "bad_type",
    ),
    "1 critical": (lambda: _signed({**HEADER, "crit": ["b64"]}, CLAIMS), FormatError, "bad_type"),
    "1 another type": (lambda: _signed({**HEADER, "typ": "at+jwt"}, CLAIMS), FormatError, "bad_type"),
    "3 another's claims under no type of its own": (
        lambda: _signed({**HEADER, "typ": "JWT"}, {"iss": "https://x", "exp": 1 << 33}),
        FormatError,
        "bad_type",
    ),
    "1 alg twice": (
        lambda: _signed(b'{"alg":"ES256","alg":"none"}', CLAIMS),
        FormatError,
        "duplicate_key",
    ),
    "2 another key": (
        lambda: signing.sign_jwt(EAR, ec.generate_private_key(ec.SECP256R1())),
        AuthenticityError,
        "sig_token",
    ),
    "2 another curve": (lambda: signing.sign_jwt(EAR, P384), AuthenticityError, "sig_token"),
    "2 no algorithm": (
        lambda: _signed({"typ": signing.JWT_TYPE}, CLAIMS),
        AuthenticityError,
        "sig_token",
    ),
    "2 none": (lambda: _signed({**HEADER, "alg": "none"}, CLAIMS), AuthenticityError, "sig_token"),
    "2 none, unsigned": (
        lambda: _signed({**HEADER, "alg": "none"}, CLAIMS).rpartition(".")[0] + ".",
        AuthenticityError,
        "sig_token",
    ),
    "2 a MAC with the public key": (
        lambda: _signed({**HEADER, "alg": "HS256"}, CLAIMS),
        AuthenticityError,
        "sig_token",
    ),
    "2 no signature": (lambda: JWT.rpartition(".")[0] + ".", AuthenticityError, "sig_token"),
    "2 a zero signature": (
        lambda: JWT.rpartition(".")[0] + "." + _b64(bytes(64)),
        AuthenticityError,
        "sig_token",
    ),
    "2 other claims": (
        lambda: ".".join((JWT.split(".")[0], _b64(json.dumps(CLAIMS).encode()), JWT.split(".")[2])),
        AuthenticityError,
        "sig_token",
    ),
    "3 no JSON": (lambda: _signed(HEADER, b"x"), FormatError, "bad_encoding"),
    "3 no object": (lambda: _signed(HEADER, []), FormatError, "bad_type"),
    "3 another profile": (
        lambda: _claims(eat_profile="tag:github.com,2023:veraison/ear"),
        FormatError,
        "bad_version",
    ),
    "3 another profile, that is greater": (
        lambda: _claims(eat_profile=f"{ear.PROFILE}.1"),
        FormatError,
        "bad_version",
    ),
    "3 no profile": (lambda: _claims(eat_profile=None), FormatError, "bad_type"),
    "3 a float for a time": (lambda: _claims(iat=1.5), FormatError, "bad_type"),
    "3 true for a time": (lambda: _claims(iat=True), FormatError, "bad_type"),
    "3 a time before times": (lambda: _claims(iat=-1), FormatError, "bad_encoding"),
    "3 a time after times": (lambda: _claims(exp=ear_claims.MAX_TIME + 1), FormatError, "bad_encoding"),
    "3 a time long after times": (lambda: _claims(exp=1 << 52), FormatError, "bad_encoding"),
    "3 no verifier": (lambda: _claims(ear_verifier_id={}), FormatError, "bad_type"),
    "3 no submods": (lambda: _claims(submods={}), FormatError, "bad_length"),
    "3 too many submods": (
        lambda: _claims(submods={str(n): {**SMALL, "ear_status": "warning"} for n in range(33)}),
        FormatError,
        "bad_length",
    ),
    "3 a submod that is none": (lambda: _claims(submods={"sgx": 1}), FormatError, "bad_type"),
    "3 a status that is none": (lambda: _submod(ear_status="fine"), FormatError, "bad_type"),
    "3 a vector that is none": (lambda: _submod(ear_trustworthiness_vector=None), FormatError, "bad_type"),
    "3 no policy": (lambda: _submod(ear_appraisal_policy_ids=[]), FormatError, "bad_length"),
    "3 a number past the last": (
        lambda: _submod(ear_trustworthiness_vector={"hardware": 128}),
        FormatError,
        "bad_type",
    ),
    "3 a number before the first": (
        lambda: _submod(ear_trustworthiness_vector={"hardware": -129}),
        FormatError,
        "bad_type",
    ),
    **{
        f"3 {number!r} for a number": (
            lambda number=number: _submod(ear_trustworthiness_vector={"hardware": number}),
            FormatError,
            "bad_type",
        )
        for number in (True, 2.5, "2", None)
    },
    "3 a policy that is no text": (lambda: _submod(ear_appraisal_policy_ids=[1]), FormatError, "bad_type"),
    "3 a short nonce": (lambda: _submod(eat_nonce="AAAA"), FormatError, "bad_length"),
    "4 issued later": (
        lambda: _claims(iat=int(NOW.timestamp()) + 61),
        FreshnessError,
        "token_not_yet_valid",
    ),
    "4 expired": (lambda: _claims(exp=int(NOW.timestamp())), FreshnessError, "token_expired"),
    "4 expired before": (lambda: _claims(exp=int(NOW.timestamp()) - 1), FreshnessError, "token_expired"),
    "4 expired long ago": (lambda: _claims(exp=0), FreshnessError, "token_expired"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_jwt(name: str) -> None:
    """Each forgery breaks one step of the verifier, and is refused at that step."""
    forge, error, code = FORGED[name]
    with pytest.raises(error) as caught:
        signing.verify_jwt(forge(), P256.public_key(), now=NOW)
    assert caught.value.code == code


def test_the_last_moment_is_in_time() -> None:
    """Clocks may differ by a minute, and no more; the second of expiry is too late."""
    for text in (_claims(iat=int(NOW.timestamp()) + 60), _claims(exp=int(NOW.timestamp()) + 1)):
        assert signing.verify_jwt(text, P256.public_key(), now=NOW).status is Tier.WARNING


def _sized(size: int) -> str:
    """A good JWT of so many characters."""
    filled = size - len(_claims(x=""))
    made = next(
        text for more in range(filled) if len(text := _claims(x="x" * (filled * 3 // 4 + more))) >= size
    )
    assert len(made) == size
    return made


def test_as_large_as_can_be() -> None:
    """A token of 64 KiB is read; so is one in bytes, whatever they are."""
    assert signing.verify_jwt(_sized(signing.MAX_SIZE), P256.public_key(), now=NOW) == EAR
    with pytest.raises(FormatError) as caught:
        signing.verify_jwt(b"\xff.\xff.\xff", P256.public_key(), now=NOW)
    assert caught.value.code == "bad_encoding"


def test_a_header_may_name_the_algorithm_alone() -> None:
    """Type and key id may be left out."""
    assert signing.verify_jwt(_signed({"alg": "ES256"}, CLAIMS), P256.public_key(), now=NOW) == EAR


def test_unknown_claims_are_passed_over() -> None:
    """Claims that we do not know change nothing, nor does an aspect that we do not know."""
    more = _claims(jti="x", nbf=1)
    assert signing.verify_jwt(more, P256.public_key(), now=NOW) == EAR
    vector = {**CLAIMS["submods"]["sgx"]["ear_trustworthiness_vector"], "other": 96}
    assert signing.verify_jwt(_submod(ear_trustworthiness_vector=vector), P256.public_key(), now=NOW) == EAR


def test_as_much_as_there_may_be() -> None:
    """Up to 32 submods and all numbers of a byte are read; what was read cannot be changed."""
    claims = {
        str(index): {"ear_status": "warning", "ear_trustworthiness_vector": {"hardware": number}}
        for index, number in enumerate(range(-16, 16))
    }
    read = signing.verify_jwt(_claims(submods=claims), P256.public_key(), now=NOW)
    assert len(read.submods) == 32
    for number in (-128, 127):
        edge = signing.verify_jwt(
            _submod(ear_trustworthiness_vector={"hardware": number}), P256.public_key(), now=NOW
        )
        assert edge.submods["sgx"].vector == {Aspect.HARDWARE: number}
    last = signing.verify_jwt(_claims(exp=ear_claims.MAX_TIME), P256.public_key(), now=NOW)
    assert last.expires_at == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    told = last.submods["sgx"]
    for held in (read.submods, read.submods["0"].vector, told.attester, told.verifier):
        with pytest.raises(TypeError):
            held["x"] = 1  # type: ignore[index]


@pytest.mark.parametrize("numbers", [False, True])
def test_what_is_written(numbers: bool) -> None:
    """The status of all stands beside the submods'; expiry, nonce and details only where there are some."""
    bare = dataclasses.replace(EAR.submods["sgx"], nonce=None, attester={}, verifier={})
    made = ear_claims.write(dataclasses.replace(EAR, expires_at=None, submods={"sgx": bare}), numbers=numbers)
    names = {name: label if numbers else name for name, label in ear_claims.LABELS.items()}
    assert set(made) == {
        names[each] for each in ("eat_profile", "iat", "ear_verifier_id", "ear_status", "submods")
    }
    assert made[names["ear_status"]] == (32 if numbers else "warning")
    held = made[names["submods"]]["sgx"]
    assert set(held) == {
        names[each] for each in ("ear_status", "ear_trustworthiness_vector", "ear_appraisal_policy_ids")
    }
    assert {type(key) for key in held[names["ear_trustworthiness_vector"]]} == {int if numbers else str}


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("status", Tier)
def test_a_status_without_a_vector(status: Tier, numbers: bool) -> None:
    """A verifier may leave the vector out, where it is asked to: its status is what it says."""
    claims = ear_claims.write(EAR, numbers=numbers)
    names = {name: label if numbers else name for name, label in ear_claims.LABELS.items()}
    told = status.number if numbers else str(status)
    del claims[names["ear_status"]]
    read = ear_claims.read({**claims, names["submods"]: {"x": {names["ear_status"]: told}}}, numbers=numbers)
    assert (read.status, read.submods["x"].vector, read.submods["x"].policy_ids) == (status, {}, ())


def test_a_type_that_others_write() -> None:
    """A token that is told to be a JWT, or nothing, is an EAR by its claims."""
    untyped = {name: value for name, value in HEADER.items() if name != "typ"}
    for header in (untyped, {**HEADER, "typ": "JWT"}):
        assert signing.verify_jwt(_signed(header, CLAIMS), P256.public_key(), now=NOW) == EAR


def test_the_numbers_of_claims() -> None:
    """In CBOR each claim has the number that is registered for it, or that its draft suggests."""
    assert dict(ear_claims.LABELS) == {
        "exp": 4,
        "iat": 6,
        "eat_nonce": 10,
        "eat_profile": 265,
        "submods": 266,
        "ear_status": 1000,
        "ear_trustworthiness_vector": 1001,
        "ear_appraisal_policy_ids": 1003,
        "ear_verifier_id": 1004,
        "ear_attester_claims": 1005,
        "ear_verifier_claims": 1006,
    }


def test_what_may_be_left_out() -> None:
    """Without expiry, policies, nonce and details a token still reads."""
    appraisal = {
        name: CLAIMS["submods"]["sgx"][name] for name in ("ear_status", "ear_trustworthiness_vector")
    }
    claims = {name: value for name, value in CLAIMS.items() if name != "exp"}
    read = signing.verify_jwt(
        _signed(HEADER, {**claims, "submods": {"x": appraisal}}), P256.public_key(), now=NOW
    )
    (held,) = read.submods.values()
    assert (read.expires_at, held.policy_ids, held.nonce) == (None, (), None)
    assert (held.protection, held.not_kept_out) == ("", ())


FORGED_CWT: dict[str, tuple[Callable[[], bytes], type[KluisError], str]] = {
    "1 no COSE": (lambda: b"\xa0", FormatError, "bad_type"),
    "1 large": (
        lambda: cose.sign1(cbor.dumps({**CWT_CLAIMS, 7: "x" * signing.MAX_SIZE}), P384),
        FormatError,
        "too_large",
    ),
    "2 another key": (
        lambda: signing.sign_cwt(EAR, ec.generate_private_key(ec.SECP384R1())),
        AuthenticityError,
        "sig_token",
    ),
    "2 another curve": (lambda: signing.sign_cwt(EAR, P256), AuthenticityError, "sig_token"),
    "3 no map": (lambda: cose.sign1(cbor.dumps([]), P384), FormatError, "bad_type"),
    "3 a label that is no text": (
        lambda: cose.sign1(cbor.dumps({**CWT_CLAIMS, 266: {1: {}}}), P384),
        FormatError,
        "bad_length",
    ),
    "3 a label that is no text, beside one that is": (
        lambda: cose.sign1(cbor.dumps({**CWT_CLAIMS, 266: {**CWT_CLAIMS[266], 1: {}}}), P384),
        FormatError,
        "bad_length",
    ),
    "3 a tier that is none": (
        lambda: cose.sign1(
            cbor.dumps({**CWT_CLAIMS, 266: {"sgx": {**CWT_CLAIMS[266]["sgx"], 1000: 3}}}), P384
        ),
        FormatError,
        "bad_type",
    ),
    "3 a key that is no text": (
        lambda: cose.sign1(
            cbor.dumps({**CWT_CLAIMS, 266: {"sgx": {**CWT_CLAIMS[266]["sgx"], 1006: {1: 2}}}}), P384
        ),
        FormatError,
        "bad_type",
    ),
    "4 expired": (
        lambda: cose.sign1(cbor.dumps({**CWT_CLAIMS, 4: int(NOW.timestamp())}), P384),
        FreshnessError,
        "token_expired",
    ),
    "4 expired long ago": (
        lambda: cose.sign1(cbor.dumps({**CWT_CLAIMS, 4: 0}), P384),
        FreshnessError,
        "token_expired",
    ),
    "4 issued later": (
        lambda: cose.sign1(cbor.dumps({**CWT_CLAIMS, 6: int(NOW.timestamp()) + 61}), P384),
        FreshnessError,
        "token_not_yet_valid",
    ),
}


@pytest.mark.parametrize("name", FORGED_CWT)
def test_forged_cwt(name: str) -> None:
    """The same for CWT."""
    forge, error, code = FORGED_CWT[name]
    with pytest.raises(error) as caught:
        signing.verify_cwt(forge(), P384.public_key(), now=NOW)
    assert caught.value.code == code


def test_misuse() -> None:
    """A key on another curve and a naive time are the caller's mistakes."""
    with pytest.raises(UsageError, match="want one on P-256 or P-384"):
        signing.sign_jwt(EAR, P521)
    with pytest.raises(UsageError, match="P-256 or P-384"):
        signing.verify_cwt(CWT, P521.public_key(), now=NOW)
    for bits in (1024, 2047, 4097, 8192):
        key = rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key()
        with pytest.raises(UsageError, match=f"token key: want 2048 to 4096 bits, got {bits}"):
            signing.verify_jwt(JWT, key, now=NOW)
    with pytest.raises(UsageError, match="want an aware time"):
        signing.verify_jwt(JWT, P256.public_key(), now=NOW.replace(tzinfo=None))


def test_jwk() -> None:
    """A verifier tells its public key as a JWK, and nothing else of it."""
    held = json.loads(signing.jwk(P384.public_key()))
    assert {held["kty"], held["crv"], held["alg"], held["use"]} == {"EC", "P-384", "ES384", "sig"}
    assert held["kid"] == signing.key_id(P384.public_key())
    assert "d" not in held


TIERS = st.sampled_from(Tier)
APPRAISALS = st.builds(
    Appraisal,
    status=TIERS,
    vector=st.dictionaries(st.sampled_from(Aspect), st.integers(-128, 127)),
    policy_ids=st.lists(st.text(max_size=8), max_size=2).map(tuple),
    nonce=st.none() | st.binary(min_size=8, max_size=64),
    attester=st.dictionaries(
        st.text(max_size=4), st.none() | st.booleans() | st.text(max_size=4), max_size=2
    ),
    verifier=st.just({}),
)
TIMES = st.integers(0, ear_claims.MAX_TIME).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
EARS = st.builds(
    Ear,
    issued_at=TIMES,
    expires_at=st.none() | TIMES,
    developer=st.text(max_size=8),
    build=st.text(max_size=8),
    submods=st.dictionaries(st.text(max_size=8), APPRAISALS, min_size=1, max_size=3),
)


@PROPERTY
@given(EARS, st.booleans())
def test_round_trip(made: Ear, numbers: bool) -> None:
    """What is written is read, in both forms."""
    assert ear_claims.read(ear_claims.write(made, numbers=numbers), numbers=numbers) == made


@PROPERTY
@given(mutations(JWT.encode()))
def test_only_our_errors_jwt(data: bytes) -> None:
    """No foreign exception leaves the verifier, and nothing but the signed bytes passes."""
    try:
        assert signing.verify_jwt(data, P256.public_key(), now=NOW) == EAR
    except (FormatError, AuthenticityError):
        return
    # A signature (r, n - s) is as good; the signed bytes are the same.
    assert data.rpartition(b".")[0] == JWT.encode().rpartition(b".")[0]


@PROPERTY
@given(mutations(CWT))
def test_only_our_errors_cwt(data: bytes) -> None:
    """The same for CWT."""
    try:
        assert signing.verify_cwt(data, P384.public_key(), now=NOW) == EAR
    except (FormatError, AuthenticityError):
        return


def test_another_library_verifies_the_signature() -> None:
    """The JWT's signature is plain ECDSA over the two first parts."""
    signed, _, signature = JWT.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    P256.public_key().verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("bits", [2048, 4096])
def test_a_service_signs_with_rsa(bits: int) -> None:
    """An attestation service's key is RSA, as Azure's is; another's does not do."""
    key = rsa_key(0, bits)
    payload = jcs.dumps(ear_claims.write(EAR, numbers=False))
    signed = (
        f"{b64.encode_url(jcs.dumps({'alg': 'RS256', 'typ': signing.JWT_TYPE}))}.{b64.encode_url(payload)}"
    )
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    made = f"{signed}.{b64.encode_url(signature)}"
    assert signing.verify_jwt(made, key.public_key(), now=NOW) == EAR
    with pytest.raises(AuthenticityError):
        signing.verify_jwt(made, rsa_key(1).public_key(), now=NOW)


@pytest.mark.parametrize("verify", [signing.verify_jwt, signing.verify_cwt])
@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate().public_key(), P256])
def test_a_key_that_signs_no_result(verify: Callable[..., Ear], key: Any) -> None:
    """A key of another kind, as a PEM file may hold, and a private one, are refused by what they are."""
    with pytest.raises(UsageError) as caught:
        verify(b"", key, now=NOW)
    assert str(caught.value) == (
        f"token key: want a public key on P-256 or P-384, or RSA, got {type(key).__name__}"
    )


def test_a_cwt_under_rsa() -> None:
    """A CWT is signed on a curve alone."""
    key = rsa_key().public_key()
    with pytest.raises(UsageError) as caught:
        signing.verify_cwt(b"", key, now=NOW)
    assert str(caught.value).endswith("on P-256 or P-384 for a CWT, got RSAPublicKey")
