"""Settings from files and options, as passed to the services of ``kluis serve``."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.cli.service import serve_settings
from kluis.errors import UsageError
from kluis.evidence import ProtectionLevel, TrustAnchors
from tests.evidence.forge import Forge
from tests.evidence.tpm.forge import Maker


def test_settings_of_a_file_and_of_options(tmp_path: Path) -> None:
    """Options add to the lists of a settings file, and go over its other members."""
    path = tmp_path / "settings.json"
    root = {"pem": "AAAA", "level": "none"}
    path.write_text(json.dumps({"attestation": {"roots": [root], "location": "here"}, "provisioning": {}}))
    options = {"attestation": {"roots": [2], "location": "there"}, "keyvault": {"b": 2}}
    assert serve_settings.merge(path, options) == {
        "attestation": {"roots": [root, 2], "location": "there"},
        "provisioning": {},
        "keyvault": {"b": 2},
    }
    assert serve_settings.merge(None, {"keyvault": {}}) == {"keyvault": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "want settings by service, JSON"),
        ("[]", "want settings by service, JSON"),
        ('{"attestation": 1}', "want settings by service, JSON"),
        ("[" * 100_000, "want settings by service, JSON"),
        ('{"attestation": {"locaton": "here"}}', "attestation.locaton: want one of "),
        ('{"attestation": {"token_seconds": "1"}}', "attestation.token_seconds: want an integer"),
        (
            '{"attestation": {"roots": [{"pem": "AAAA", "level": "hardware"}]}}',
            "attestation.roots[0].level: want ",
        ),
        ('{"keyvault": {"x": 1}}', "keyvault.x: want one of "),
        ('{"provisioning": {"x": 1}}', "provisioning.x: want one of "),
        ('{"bank": {}}', "want settings of attestation, keyvault, ledger, provisioning, got 'bank'"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    """A file that is no settings by service is named with what it should be."""
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        serve_settings.merge(path, {})
    assert caught.value.message.startswith(f"{path}: {message}")


def test_issuers_of_tpms_are_a_chain(tmp_path: Path) -> None:
    """Every certificate of a file is an issuer; of a policy signer's file the first is the signer's."""
    maker, path = Maker(), tmp_path / "chain.pem"
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in (maker.ca, maker.root)))
    der = [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in (maker.ca, maker.root)]
    assert serve_settings.attestation(None, None, [path], [path], None, False) == {
        "policy_signers": der[:1],
        "tpm_issuers": der,
    }
    path.write_text("no certificate")
    with pytest.raises(UsageError) as caught:
        serve_settings.attestation(None, None, None, [path], None, False)
    assert caught.value.message == f"{path}: want a certificate, PEM"


def test_further_authorities(tmp_path: Path) -> None:
    """Authorities from files and those only by URL are both passed; a file that is not JSON is named."""
    path = tmp_path / "authority.json"
    path.write_text('{"type": "pinned"}')
    assert serve_settings.authorities([path], ["https://a.example"]) == (
        {"type": "pinned"},
        {"type": "insecure_fetched", "url": "https://a.example"},
    )
    path.write_text("{")
    with pytest.raises(UsageError) as caught:
        serve_settings.authorities([path], None)
    assert caught.value.message == f"{path}: want an authority, JSON"


def test_a_root_that_is_none_is_said_at_once(tmp_path: Path) -> None:
    """Before any image is built: a root that is not there, and a file that is no certificate."""
    missing, other = tmp_path / "missing.pem", tmp_path / "other.pem"
    other.write_text("no certificate")
    with pytest.raises(UsageError) as caught:
        serve_settings._root(str(missing))
    assert caught.value.hint == f"kluis platform root -o {missing} writes this machine's"
    with pytest.raises(UsageError) as caught:
        serve_settings._root(f"{other}=vtpm")
    why = "want a root certificate, PEM: root certificate at 0x0: is not a PEM certificate"
    assert caught.value.message == f"{other}: {why}"
    # Evidence holds certificates, too.
    quote = b"\x03\0\x02\0" + Maker().root.public_bytes(Encoding.PEM)
    other.write_bytes(quote)
    with pytest.raises(UsageError) as caught:
        serve_settings._root(str(other))
    assert caught.value.message == f"{other}: {why}"
    for level in ("foo", "process", ""):
        with pytest.raises(UsageError) as caught:
            serve_settings._root(f"{other}={level}")
        assert caught.value.message.startswith(f"--root: {other}: want a level of none, vtpm, ")
        assert caught.value.message.endswith(f", got '{level}'")


def test_a_root_of_which_nothing_would_be_attested(tmp_path: Path) -> None:
    """A root without a stated level is reported at the start, and not with each piece of evidence."""
    own, level_of = tmp_path / "own.pem", tmp_path / "settings.json"
    own.write_bytes(Maker().root.public_bytes(Encoding.PEM))

    def told(root: str, *, path: Path | None = None, unprotected: bool = False) -> Any:
        options = serve_settings.attestation([root], None, None, None, None, unprotected)
        return serve_settings.merge(path, {"attestation": options})

    for root in (f"{own}", f"{own}=none"):
        with pytest.raises(UsageError) as caught:
            told(root)
        assert caught.value.message.startswith("root 'Maker Root sha256:")
        assert caught.value.message.endswith(
            "': want a level, because the root is neither a vendor's nor emulated, got no level"
        )
        assert "--root FILE=hardware-sgx" in str(caught.value.hint)
        assert told(root, unprotected=True)["attestation"]["insecure_accept_unprotected"] is True
    assert told(f"{own}=hardware-sgx")
    level_of.write_text(json.dumps({"attestation": {"insecure_accept_unprotected": True}}))
    assert told(f"{own}", path=level_of)
    emulated = tmp_path / "emulated.pem"
    emulated.write_bytes(Forge().authority.root_pem())
    assert told(f"{emulated}")
    makers = [each for each in TrustAnchors.shipped() if each.level is not ProtectionLevel.NONE]
    key = serialization.load_der_public_key(makers[0].spki)
    own.write_bytes(key.public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    document = {"pem": base64.b64encode(own.read_bytes()).decode(), "level": None}
    assert serve_settings.merge(None, {"attestation": {"roots": [document]}})
