"""The operator's own certificate: which files are accepted, and the reason for each refusal."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from kluis.errors import FormatError, FreshnessError, KluisError, UnavailableError, UsageError
from kluis.serve.front.certificate import NamedKey, OwnCertificate
from tests.odd_certificates import of_odd_version
from tests.serve.front.pki import NOW, Operator

NAMES = ("services.example", "10.0.0.7")


class Fixed:
    """A clock that is set."""

    def __init__(self, time: datetime = NOW) -> None:
        self.time = time

    def now(self) -> datetime:
        return self.time


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
)
def test_a_pair_for_the_names(tmp_path: Path, key: Any) -> None:
    """A certificate of each supported key is read, and neither repr nor str contains the key."""
    chain, private = Operator(tmp_path).issue(*NAMES, key=key)
    pair = NamedKey.read(chain, private, NAMES, NOW)
    assert pair.chain == chain.read_bytes()
    assert pair.ends == NOW + timedelta(days=30)
    assert "PRIVATE" in pair.key.decode()
    assert "PRIVATE" not in f"{pair!r} {pair!s}"


def test_a_wildcard_covers_one_label(tmp_path: Path) -> None:
    """As clients read it: not the domain itself, and not two labels."""
    chain, private = Operator(tmp_path).issue("*.example.org")
    NamedKey.read(chain, private, ("a.example.org",), NOW)
    for name in ("example.org", "a.b.example.org"):
        with pytest.raises(UsageError) as caught:
            NamedKey.read(chain, private, (name,), NOW)
        assert caught.value.message == (
            f"{chain}: want a certificate for '{name}', got one for *.example.org"
        )


def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    """Step 1: it is refused, with the command that fixes it."""
    chain, private = Operator(tmp_path).issue(*NAMES)
    os.chmod(private, 0o640)
    with pytest.raises(UnavailableError) as caught:
        NamedKey.read(chain, private, NAMES, NOW)
    assert (caught.value.message, caught.value.hint) == (
        f"{private}: want mode 0600, got 0640",
        f"chmod 600 {private}",
    )


@pytest.mark.parametrize("kind", ["weak", "other", "encrypted", "garbage"])
def test_another_key(tmp_path: Path, kind: str) -> None:
    """Step 2: a short, an unsupported, an encrypted key, or none."""
    operator = Operator(tmp_path)
    chain, private = operator.issue(*NAMES)
    if kind == "weak":
        chain, private = operator.issue(*NAMES, key=rsa.generate_private_key(65537, 1024))
    elif kind == "other":
        chain, private = operator.issue(*NAMES, key=ed25519.Ed25519PrivateKey.generate())
    elif kind == "encrypted":
        secret = BestAvailableEncryption(b"word")
        key = ec.generate_private_key(ec.SECP256R1())
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    else:
        private.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(FormatError) as caught:
        NamedKey.read(chain, private, NAMES, NOW)
    assert (
        caught.value.message
        == {
            "weak": f"{private}: want a key of RSA with 2048 bits or more, P-256 or P-384",
            "other": f"{private}: want a key of RSA with 2048 bits or more, P-256 or P-384",
            "encrypted": f"{private}: want a key without a passphrase, got an encrypted one",
            "garbage": f"{private}: want a private key, PEM",
        }[kind]
    )


def test_a_certificate_of_another_key(tmp_path: Path) -> None:
    """Step 3: the first certificate must be this key's."""
    operator = Operator(tmp_path)
    chain, private = operator.issue(*NAMES)
    before = chain.read_bytes()
    operator.issue(*NAMES)
    chain.write_bytes(before)
    with pytest.raises(UsageError) as caught:
        NamedKey.read(chain, private, NAMES, NOW)
    assert caught.value.message == (
        f"{chain}: want the certificate of {private} first, got one of another key"
    )


def test_a_chain_whose_issuer_did_not_sign(tmp_path: Path) -> None:
    """Step 3: an issuer of the same name with another key is refused."""
    chain, private = Operator(tmp_path).issue(*NAMES, with_root=False)
    other = tmp_path / "other"
    other.mkdir()
    chain.write_bytes(chain.read_bytes() + Operator(other).root.public_bytes(Encoding.PEM))
    with pytest.raises(UsageError) as caught:
        NamedKey.read(chain, private, NAMES, NOW)
    assert caught.value.message == (
        f"{chain}: want certificate 2 to be the issuer of the one before it, got another"
    )


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        (-9, -1, "expired on 2026-05-31T00:00:00Z, used at 2026-06-01T00:00:00Z"),
        (1, 9, "not valid before 2026-06-02T00:00:00Z, used at 2026-06-01T00:00:00Z"),
    ],
)
def test_one_that_is_not_valid_now(tmp_path: Path, begin: int, end: int, message: str) -> None:
    """Step 4: the error has both times."""
    chain, private = Operator(tmp_path).issue(*NAMES, begin=timedelta(days=begin), end=timedelta(days=end))
    with pytest.raises(FreshnessError) as caught:
        NamedKey.read(chain, private, NAMES, NOW)
    assert caught.value.message == f"{chain}: {message}"


def test_one_for_clients(tmp_path: Path) -> None:
    """Step 5: no browser accepts it for a server."""
    chain, private = Operator(tmp_path).issue(*NAMES, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    with pytest.raises(UsageError) as caught:
        NamedKey.read(chain, private, NAMES, NOW)
    assert caught.value.message == (
        f"{chain}: want a certificate for servers (serverAuth), got one for other uses"
    )


def test_a_name_that_it_does_not_contain(tmp_path: Path) -> None:
    """Step 6: the error lists the names that it contains."""
    chain, private = Operator(tmp_path).issue(*NAMES)
    with pytest.raises(UsageError) as caught:
        NamedKey.read(chain, private, (*NAMES, "10.0.0.8"), NOW)
    assert caught.value.message == (
        f"{chain}: want a certificate for '10.0.0.8', got one for services.example, 10.0.0.7"
    )


def test_a_chain_that_is_none(tmp_path: Path) -> None:
    """Text is no certificate, nor is one of an unknown version."""
    chain, private = Operator(tmp_path).issue(*NAMES)
    for text in ("certificate", of_odd_version(chain.read_text())):
        chain.write_text(text)
        with pytest.raises(FormatError) as caught:
            NamedKey.read(chain, private, NAMES, NOW)
        assert caught.value.message == f"{chain}: want certificates, PEM, the server's first"


def test_a_bad_replacement_changes_nothing(tmp_path: Path) -> None:
    """A reload that is refused keeps the pair that was valid; a good one replaces it."""
    operator = Operator(tmp_path)
    own = OwnCertificate(*operator.issue(*NAMES), NAMES, Fixed())
    before = own.current
    operator.issue("elsewhere.example")
    with pytest.raises(KluisError):
        own.reload()
    assert own.current is before
    operator.issue(*NAMES)
    own.reload()
    assert own.current.chain != before.chain


def test_links_are_followed_to_a_key_of_the_right_mode(tmp_path: Path) -> None:
    """A link to both files is read, and the mode of the target counts."""
    chain, private = Operator(tmp_path).issue(*NAMES)
    live = tmp_path / "live"
    live.mkdir()
    (live / "chain.pem").symlink_to(chain)
    (live / "key.pem").symlink_to(private)
    assert NamedKey.read(live / "chain.pem", live / "key.pem", NAMES, NOW).chain == chain.read_bytes()
    private.chmod(0o644)
    with pytest.raises(UnavailableError, match="want mode 0600, got 0644"):
        NamedKey.read(live / "chain.pem", live / "key.pem", NAMES, NOW)
