"""A real TPM 2.0, in software, opens our credential for its own keys, and for no others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kluis.errors import AuthenticityError
from kluis.evidence import ProtectionLevel, verify
from kluis.evidence.context import Context
from kluis.evidence.tpm.activation import FRESH_SIZE, Challenge, challenge
from kluis.evidence.tpm.key import area_of
from kluis.formats.tpm import public
from kluis.formats.tpm.public import Public
from tests.clients.test_swtpm import LACKING, SoftwareTpm
from tests.evidence.tpm.forge import Maker, collection

pytestmark = pytest.mark.skipif(
    bool(LACKING), reason=f"not installed: {LACKING}; apt-get install swtpm tpm2-tools"
)


@pytest.fixture(scope="module")
def tpm() -> Iterator[SoftwareTpm]:
    """One TPM for all tests."""
    with tempfile.TemporaryDirectory(prefix="tpm-") as folder:
        made = SoftwareTpm(Path(folder))
        yield made
        made.stop()


@pytest.fixture(scope="module")
def maker() -> Maker:
    """Who certifies what this TPM holds."""
    return Maker(datetime.now(UTC))


def _ek(tpm: SoftwareTpm, kind: str) -> Public:
    """The endorsement key of a kind, by the TCG's template, as a context and an area."""
    tpm.run("createek", "-c", "ek.ctx", "-G", kind, "-u", "ek.pub")
    return public.parse_storage(tpm.read("ek.pub"))


def _challenge(tpm: SoftwareTpm, maker: Maker, ek: Public) -> Challenge:
    key: Any = load_der_public_key(ek.spki)
    certificate = maker.ek(
        key, bit="key_agreement" if isinstance(ek.key, public.EcPublic) else "key_encipherment"
    )
    made = challenge(
        maker.endorse(certificate),
        tpm.read("ek.pub"),
        tpm.read("ak.pub"),
        context=Context(maker.anchors),
        now=datetime.now(UTC),
        fresh=os.urandom(FRESH_SIZE),
    )
    (tpm.folder / "credential").write_bytes(made.credential.encode())
    return made


def _activate(tpm: SoftwareTpm) -> bool:
    """Let the TPM open the credential with the keys of the two contexts."""
    (tpm.folder / "secret").unlink(missing_ok=True)
    tpm.run("startauthsession", "--policy-session", "-S", "session")
    assert tpm.tool("policysecret", "-S", "session", "-c", "e").returncode == 0
    done = tpm.tool("activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "secret",
                    "-P", "session:session")  # fmt: skip
    return done.returncode == 0


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_activation(tpm: SoftwareTpm, maker: Maker, kind: str) -> None:
    """The TPM finds our secret; then its quotes have the trust of its EK's vendor."""
    ek = _ek(tpm, kind)
    ak = tpm.make_ak("ecc", "ecdsa")
    made = _challenge(tpm, maker, ek)
    assert _activate(tpm)
    activated = made.accept(tpm.read("secret"), now=datetime.now(UTC))
    parts = tpm.quote(b"a nonce of ours", "ecdsa")
    claims = verify(
        collection(parts), anchors=maker.anchors, collateral=activated, now=datetime.now(UTC)
    ).value
    assert (claims.level, claims.nonce) == (ProtectionLevel.VTPM, b"a nonce of ours")
    assert activated.area == ak
    with pytest.raises(AuthenticityError) as caught:
        _challenge(tpm, maker, ek).accept(tpm.read("secret"), now=datetime.now(UTC))
    assert caught.value.code == "credential"


def test_another_key(tpm: SoftwareTpm, maker: Maker) -> None:
    """The TPM opens nothing for a key that the credential does not name."""
    ek = _ek(tpm, "rsa")
    tpm.make_ak("ecc", "ecdsa")
    _challenge(tpm, maker, ek)
    named = area_of(tpm.read("ak.pub"))
    assert tpm.make_ak("ecc", "ecdsa") != named
    assert not _activate(tpm)


def test_another_tpm(tpm: SoftwareTpm, maker: Maker) -> None:
    """Another TPM cannot open it, though the attestation key is its own."""
    with tempfile.TemporaryDirectory(prefix="tpm-") as folder:
        other = SoftwareTpm(Path(folder))
        try:
            ek = _ek(tpm, "rsa")
            tpm.make_ak("ecc", "ecdsa")
            _challenge(tpm, maker, ek)
            _ek(other, "rsa")
            other.make_ak("ecc", "ecdsa")
            (other.folder / "credential").write_bytes(tpm.read("credential"))
            assert not _activate(other)
        finally:
            other.stop()
