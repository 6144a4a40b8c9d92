"""``kluis token verify``: a token and files in, a verdict out; with a root, the enclave behind the key."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.appraisal.tokens import ear, signing
from kluis.formats import x509
from kluis.formats.encoding import b64
from tests.adversary.test_release import signing_certificate
from tests.appraisal.tokens.test_signing import P256, RESULT
from tests.cli.quotes import Kluis, Said, ends
from tests.evidence.forge import IMAGE, Forge
from tests.services.keyvault.world import AUTHORITY, OTHER_KEY, claims, jwks, sign
from tests.services.web.issuer import NOW
from tests.tee.image import samples

AT = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
SETTINGS = "c5" * 32


@pytest.fixture(scope="module")
def forge() -> Forge:
    """The platform that the service runs on."""
    return Forge(now=NOW)


@pytest.fixture
def folder(tmp_path: Path, forge: Forge) -> Path:
    """A token, the keys of its service, and what proves the enclave behind them."""
    certificate = signing_certificate(forge, settings=bytes.fromhex(SETTINGS))
    (tmp_path / "token.jwt").write_text(sign(claims()) + "\n")
    (tmp_path / "certs.json").write_text(json.dumps(jwks(x5c=[b64.encode(certificate)])))
    (tmp_path / "signer.pem").write_bytes(x509.write_pem(certificate))
    (tmp_path / "root.pem").write_bytes(forge.authority.root_pem())
    (tmp_path / "collateral.json").write_bytes(forge.collateral().to_json())
    return tmp_path


def verified(
    kluis: Kluis, folder: Path, *more: object, keys: str = "certs.json", issuer: str = AUTHORITY
) -> Said:
    """One command line about the folder's token."""
    words = ("--keys", folder / keys, "--issuer", issuer, "--now", AT)
    return kluis("token", "verify", folder / "token.jwt", *words, *more)


def service(folder: Path, *more: object) -> tuple[object, ...]:
    """The words that have the service's enclave checked."""
    files = ("--root", folder / "root.pem", "--collateral", folder / "collateral.json")
    return (*files, "--image-id", IMAGE.hex(), "--protection", "process", *more)


@pytest.mark.parametrize("keys", ["certs.json", "signer.pem"])
def test_a_token(kluis: Kluis, folder: Path, keys: str) -> None:
    """Its issuer, its end and its claims are printed, and that the key is taken at one's word."""
    said = verified(kluis, folder, keys=keys)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert f"ok    {'issuer':<21} {AUTHORITY}" in lines
    assert "      x-ms-attestation-type: sevsnpvm" in lines
    assert lines[-1] == "signed by a key that you named; with --image its enclave is verified as well"
    value = json.loads(verified(kluis, folder, "--json", keys=keys).out)
    assert (value["authentic"], value["form"], value["signer"], value["claims"]) == (
        True, "azure", None, claims(),
    )  # fmt: skip


def test_claims_cannot_begin_lines(kluis: Kluis, folder: Path) -> None:
    """An attester's text in its token stays on the one line of its claim."""
    forged = "x\nok    issuer                https://somebody.else"
    told = {**claims(), "x-ms-text": forged, f"y{forged}": "z"}
    (folder / "token.jwt").write_text(sign(told))
    said = verified(kluis, folder)
    assert said.code == 0, said.err
    assert [line for line in said.out.splitlines() if line.startswith("ok    issuer")] == [
        f"ok    {'issuer':<21} {AUTHORITY}"
    ]
    assert f"      x-ms-text: {forged.replace(chr(10), '?')}" in said.out.splitlines()
    assert json.loads(verified(kluis, folder, "--json").out)["claims"] == told


def test_the_enclave_behind_the_key(kluis: Kluis, folder: Path) -> None:
    """With a root, the service's enclave and its settings are verified, and its level is printed."""
    said = verified(kluis, folder, *service(folder, "--settings", SETTINGS))
    assert said.code == 0, said.err
    assert f"ok    {'settings':<21} {SETTINGS}" in said.out
    assert "protection process: keys made by" in said.out
    value = json.loads(verified(kluis, folder, *service(folder, "--insecure-any-settings", "--json")).out)
    assert value["signer"]["measurement"] == f"sha256:{IMAGE.hex()}"
    assert value["signer"]["protection"] == "process"


def test_another_enclave(kluis: Kluis, folder: Path) -> None:
    """Another image, other settings, another root and an unaccepted level are refused, with a message for
    each.
    """
    words = service(folder, "--settings", SETTINGS)
    other = verified(kluis, folder, *(word if word != IMAGE.hex() else "00" * 32 for word in words))
    assert (other.code, "measurement: want 00000000..0000" in other.err) == (6, True)
    told = verified(kluis, folder, *service(folder, "--settings", "00" * 32))
    assert (told.code, f"settings: want {'00' * 32}, got {SETTINGS}" in told.err) == (4, True)
    assert (
        "kluis: hint: get the settings from the service's operator: kluis serve --json prints them as"
        in told.err
    )
    level = verified(kluis, folder, *(word for word in words if word not in ("--protection", "process")))
    assert (level.code, "protection: want" in level.err) == (6, True)
    (folder / "root.pem").write_bytes(Forge(now=NOW).authority.root_pem())
    assert verified(kluis, folder, *words).code == 4


def test_a_key_that_an_enclave_does_not_have(kluis: Kluis, folder: Path, forge: Forge) -> None:
    """An attacker who swaps the keys signs with a key whose certificate has no evidence."""
    (folder / "token.jwt").write_text(sign(claims(), key=OTHER_KEY))
    certificate = signing_certificate(
        forge, OTHER_KEY, settings=bytes.fromhex(SETTINGS), mrenclave=b"\1" * 32
    )
    (folder / "certs.json").write_text(json.dumps(jwks(x5c=[b64.encode(certificate)])))
    assert verified(kluis, folder).code == 0
    said = verified(kluis, folder, *service(folder, "--settings", SETTINGS))
    assert (said.code, "measurement: want" in said.err) == (6, True)


def test_what_names_the_claim(kluis: Kluis, folder: Path) -> None:
    """A claim that does not hold is named, with its code, and exits by its kind."""
    said = verified(kluis, folder, issuer="https://other.example")
    assert said.code == 4
    assert said.err.startswith("kluis: error: token iss: want 'https://other.example', got 'https://attest")
    assert said.err.endswith(ends("token_iss"))
    late = verified(kluis, folder, "--now", (NOW + timedelta(days=2)).isoformat())
    assert (late.code, late.err.endswith(ends("token_expired"))) == (5, True)
    for more, code in ((("--audience", "me"), "token_aud"), (("--nonce", "1"), "token_nonce")):
        held = verified(kluis, folder, *more)
        assert (held.code, held.err.endswith(ends(code))) == (4, True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--image-id", "00" * 32), "--image: want --settings with it, or --insecure-any"),
        (("--settings", "00" * 32), "--settings: want --image FILE with it, got none"),
        (("--insecure-any-settings",), "--insecure-any-settings: want --image FILE with it, got none"),
        (
            ("--root", "root.pem"),
            "--root: want --image or --image-id with it, got none: under a root there is every enclave",
        ),
        (
            ("--root", "root.pem", "--image-id", "00" * 32),
            "--image: want --settings with it, or --insecure-any",
        ),
        (("--root", "root.pem", "--image-id", "xy"), "--image-id: want 64 hex digits, got 'xy'"),
    ],
)
def test_what_cannot_be_meant(kluis: Kluis, folder: Path, more: tuple[str, ...], message: str) -> None:
    """A root without an image would be every enclave's; what goes with a root is nothing without one."""
    said = verified(kluis, folder, *more)
    assert (said.code, said.err.startswith(f"kluis: error: {message}")) == (2, True), said.err


def test_an_image_file_stands_for_its_id(kluis: Kluis, folder: Path) -> None:
    """--image does what --image-id does with what the file measures to."""
    (folder / "a.kluis").write_bytes(samples.image())
    measured = json.loads(kluis("measure", folder / "a.kluis", "--json").out)["image_id"]
    files = ("--root", folder / "root.pem", "--collateral", folder / "collateral.json")
    trust = (*files, "--insecure-any-settings", "--protection", "process")
    by_file = verified(kluis, folder, *trust, "--image", folder / "a.kluis")
    assert by_file == verified(kluis, folder, *trust, "--image-id", measured)
    assert by_file.code != 0
    assert f"want {measured[:8]}" in by_file.err


@pytest.mark.parametrize("form", ["jwt", "cwt"])
def test_an_ear_that_is_not_affirming(kluis: Kluis, tmp_path: Path, form: str) -> None:
    """An EAR's tier is printed, and any but affirming exits like a refusal by a policy."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    signed = signing.sign_jwt(made, P256).encode() if form == "jwt" else signing.sign_cwt(made, P256)
    (tmp_path / "ear").write_bytes(signed)
    key = P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(key)
    words = ("token", "verify", tmp_path / "ear", "--keys", tmp_path / "key.pem", "--now", AT)
    said = kluis(*words)
    assert (said.code, "tier  warning" in said.out.splitlines()) == (6, True), said.err
    seen = kluis("inspect", tmp_path / "ear").out
    assert "contains a service's result, not evidence" in seen
    assert seen.endswith("\n\nnothing above is verified: kluis token verify checks it\n")
    value = json.loads(kluis(*words, "--json").out)
    assert (value["form"], value["status"]) == (f"ear-{form}", "warning")


@pytest.mark.parametrize("form", ["jwt", "cwt"])
def test_what_an_ear_says_of_each_attester(kluis: Kluis, tmp_path: Path, form: str) -> None:
    """A person reads what each is worth, what it measures to, which rules it fails, and what gets in."""
    rules = [dataclasses.replace(rule, ok=rule.name != "tcb_status") for rule in RESULT.rules]
    made = ear.of(
        dataclasses.replace(RESULT, rules=tuple(rules)), issued_at=NOW, expires_at=NOW + timedelta(minutes=5)
    )
    signed = signing.sign_jwt(made, P256).encode() if form == "jwt" else signing.sign_cwt(made, P256)
    (tmp_path / "ear").write_bytes(signed)
    key = P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(key)
    said = kluis("token", "verify", tmp_path / "ear", "--keys", tmp_path / "key.pem", "--now", AT)
    (label, found), *_ = made.submods.items()
    lines = said.out.splitlines()
    assert f"{label}: {found.status}" in lines
    assert f"      {'protection':<21} {found.protection}" in lines
    assert f"      {'measurement':<21} {RESULT.claims.measurement}" in lines
    assert [line.split()[1] for line in lines if line.startswith("FAIL  ")] == ["tcb_status"]
    for each in found.not_kept_out:
        assert f"        - {each}" in lines
    assert "submods" not in said.out


def test_an_ear_names_no_issuer(kluis: Kluis, tmp_path: Path) -> None:
    """Checking an EAR's issuer, as for other tokens, fails with the message that it has none."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    (tmp_path / "ear").write_text(signing.sign_jwt(made, P256))
    key = P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(key)
    words = ("token", "verify", tmp_path / "ear", "--keys", tmp_path / "key.pem", "--now", AT)
    said = kluis(*words, "--issuer", "https://service.example")
    assert said.code == 4
    assert said.err.startswith("kluis: error: token iss: want 'https://service.example', got none\n")
    assert "hint: an EAR need not name its issuer: leave --issuer out; --root has" in said.err


def test_two_tables_of_an_ear_with_rows_of_one_name(kluis: Kluis, tmp_path: Path) -> None:
    """A nonce within what the evidence was over does not pass for the one that the attester was given."""
    made = ear.of(RESULT, issued_at=NOW, expires_at=NOW + timedelta(minutes=5))
    (label, found), *_ = made.submods.items()
    tables = {
        "nonce": "given",
        "x-ms-runtime": {"nonce": "other", "image_id": "aa" * 32},
        "maa-attestationcollateral": {"qeidhash": "bb"},
    }
    made = dataclasses.replace(made, submods={label: dataclasses.replace(found, attester=tables)})
    (tmp_path / "ear").write_text(signing.sign_jwt(made, P256))
    key = P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(key)
    said = kluis("token", "verify", tmp_path / "ear", "--keys", tmp_path / "key.pem", "--now", AT)
    for line in (
        "      nonce                 given",
        "      x-ms-runtime.nonce    other",
        f"      x-ms-runtime.image_id {'aa' * 32}",
        "      maa-attestationcollateral.qeidhash  bb",
    ):
        assert line in said.out.splitlines()


def test_another_key(kluis: Kluis, folder: Path) -> None:
    """For a key without a name the error shows it is the given one, and the fix is to give the signer's."""
    for key, problem in (
        (OTHER_KEY, "is not signed by the key that was given"),
        (P256, "alg: want ES256, got"),
    ):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "key.pem").write_bytes(pem)
        said = verified(kluis, folder, keys="key.pem")
        assert (said.code, problem in said.err) == (4, True), said.err
        assert "kluis: hint: pass the public key of the verifier that signed the token; an att" in said.err


def test_a_token_is_no_evidence(kluis: Kluis, folder: Path) -> None:
    """The commands about evidence say which one is for tokens."""
    said = kluis("verify", folder / "token.jwt")
    assert said.code == 3
    assert f"\nkluis: hint: kluis token verify {folder / 'token.jwt'} --keys FILE --issuer URL\n" in said.err
    seen = kluis("inspect", folder / "token.jwt").out
    assert seen.endswith("\n\nnothing above is verified: kluis token verify checks it\n")
