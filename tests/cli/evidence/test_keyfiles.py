"""Keys, reference values and signed results on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from kluis.appraisal.tokens import signing
from kluis.cli.evidence import keyfiles
from kluis.errors import UsageError
from kluis.formats.ietf import cose
from tests.appraisal.policy.test_reference import TOML, UNNAMED, UNSIGNED
from tests.cli.quotes import NOW, Kluis, appraising
from tests.evidence.forge import NONCE

KEY = ec.generate_private_key(ec.SECP256R1())
WHEN = datetime.fromisoformat(NOW)


def _private(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    sealed = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed)


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("kind", ["jwt", "cwt"])
def test_a_signed_result(kluis: Kluis, folder: Path, kind: str) -> None:
    """--ear signs the result, good or bad, and a relying party verifies it with the public key."""
    (folder / "key.pem").write_bytes(_private(KEY))
    signed = folder / "result"
    words = ("--ear", kind, "--ear-key", folder / "key.pem", "-o", signed)
    for nonce, code, status in ((NONCE.hex(), 0, "warning"), ("0102", 5, "contraindicated")):
        assert kluis(*appraising(folder, "--nonce", nonce, *words)).code == code
        verify = signing.verify_jwt if kind == "jwt" else signing.verify_cwt
        result = verify(signed.read_bytes(), KEY.public_key(), now=WHEN)
        assert result.status == status
        assert result.submods["sgx"].protection == "process"
        assert result.submods["sgx"].not_kept_out


@pytest.mark.parametrize(
    "words",
    [
        ("--ear", "jwt"),
        ("--ear", "xml", "--ear-key", "key.pem", "-o", "x"),
        ("--ear-key", "key.pem", "-o", "x"),
        ("-o", "x"),
    ],
)
def test_half_a_wish(kluis: Kluis, folder: Path, words: tuple[str, ...]) -> None:
    """Half of what signing needs is a usage error, before anything is judged."""
    said = kluis(*appraising(folder, *words))
    assert (said.code, said.out) == (2, "")
    got = ", ".join(word for word in ("--ear jwt", "--ear xml", "--ear-key", "-o") if word in " ".join(words))
    assert f"want --ear jwt or cwt with --ear-key FILE and -o FILE, got {got}\n" in said.err
    assert "\nkluis: hint: openssl genpkey " in said.err


@pytest.mark.parametrize(
    "data",
    [
        b"noise",
        _public(KEY),
        _private(KEY, b"password"),
        _private(ec.generate_private_key(ec.SECP521R1())),
    ],
)
def test_no_private_key(tmp_path: Path, data: bytes) -> None:
    """Another kind of key, or one under a password, is refused by its file's name."""
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"key\.pem: want a private key on P-256 or P-384"):
        keyfiles.private_key(path)


@pytest.mark.parametrize("data", [b"noise", _private(KEY), _public(ec.generate_private_key(ec.SECP521R1()))])
def test_no_public_key(tmp_path: Path, data: bytes) -> None:
    """The same for public keys."""
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"key\.pem: want a public key on P-256 or P-384"):
        keyfiles.public_key(path)


def test_references(tmp_path: Path) -> None:
    """Reference values come from TOML and CoRIM files together, or under a key from what it signed."""
    (tmp_path / "a.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "b.corim").write_bytes(UNSIGNED)
    (tmp_path / "c.corim").write_bytes(cose.sign1(UNSIGNED, KEY))
    (tmp_path / "d.corim").write_bytes(UNNAMED)
    (tmp_path / "key.pem").write_bytes(_public(KEY))
    now = datetime(2026, 6, 1, tzinfo=UTC)
    plain = [str(tmp_path / "a.toml"), str(tmp_path / "b.corim"), f"cca={tmp_path / 'd.corim'}"]
    found = keyfiles.references(plain, None, now)
    assert {str(tee) for tee in found.values} == {"snp", "tdx", "cca"}
    found = keyfiles.references([str(tmp_path / "c.corim")], tmp_path / "key.pem", now)
    assert {str(tee) for tee in found.values} == {"tdx"}
    assert keyfiles.references([], None, now).values == {}


@pytest.mark.parametrize("name", ["a.toml", "b.corim"])
def test_with_a_key_nothing_unsigned_is_believed(tmp_path: Path, name: str) -> None:
    """Next to a signed manifest, too, an unsigned file is refused: an attacker may have replaced it."""
    (tmp_path / "a.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "b.corim").write_bytes(UNSIGNED)
    (tmp_path / "c.corim").write_bytes(cose.sign1(UNSIGNED, KEY))
    (tmp_path / "key.pem").write_bytes(_public(KEY))
    now = datetime(2026, 6, 1, tzinfo=UTC)
    names = [str(tmp_path / each) for each in ("c.corim", name)]
    with pytest.raises(UsageError, match="which is unsigned" if name == "a.toml" else "is unsigned"):
        keyfiles.references(names, tmp_path / "key.pem", now)
    with pytest.raises(UsageError, match="want a signed CoRIM with it, got none"):
        keyfiles.references([], tmp_path / "key.pem", now)
