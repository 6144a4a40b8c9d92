"""The loopback authority: whom it names, and what it refuses to sign."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from kluis.enclave.attested_tls.link import ServerKey
from kluis.errors import AuthenticityError, FormatError, FreshnessError, UnavailableError
from kluis.serve.front.authority import LoopbackAuthority

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = ("localhost", "127.0.0.1", "*.vault.localhost")


def test_clients_that_trust_the_root_find_every_name(tmp_path: Path) -> None:
    """A strict verifier accepts the chain for each name it was made out to, and for no other."""
    authority = LoopbackAuthority.load_or_create(tmp_path, NOW)
    leaf, root = x509.load_pem_x509_certificates(authority.sign(ServerKey().request(), NAMES, NOW))
    store = Store([x509.load_pem_x509_certificate(authority.root_pem())])
    builder = PolicyBuilder().store(store).time(NOW + timedelta(days=80))
    for subject in (
        x509.DNSName("localhost"),
        x509.DNSName("my.vault.localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ):
        assert builder.build_server_verifier(subject).verify(leaf, [root])[0] == leaf
    with pytest.raises(x509.verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("elsewhere.example")).verify(leaf, [root])


def test_it_is_the_same_at_the_next_start(tmp_path: Path) -> None:
    """Key and root are kept, readable only by this user."""
    first = LoopbackAuthority.load_or_create(tmp_path, NOW)
    again = LoopbackAuthority.load_or_create(tmp_path, NOW + timedelta(days=1))
    assert again.root_pem() == first.root_pem()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    """An authority whose key is open to others is refused, with the command that fixes it."""
    LoopbackAuthority.load_or_create(tmp_path, NOW)
    os.chmod(tmp_path / "root.key", 0o644)
    with pytest.raises(UnavailableError, match="want mode 0600, got 0644") as caught:
        LoopbackAuthority.load_or_create(tmp_path, NOW)
    assert caught.value.hint == f"chmod 600 {tmp_path / 'root.key'}"


def test_a_certificate_of_another_key(tmp_path: Path) -> None:
    """A root that did not sign what this key signs is refused: no client would believe any of it."""
    LoopbackAuthority.load_or_create(tmp_path / "one", NOW)
    LoopbackAuthority.load_or_create(tmp_path / "other", NOW)
    (tmp_path / "one" / "root.pem").write_bytes((tmp_path / "other" / "root.pem").read_bytes())
    with pytest.raises(FormatError) as caught:
        LoopbackAuthority.load_or_create(tmp_path / "one", NOW)
    path = tmp_path / "one" / "root.pem"
    assert caught.value.message == f"{path}: want the certificate of the key in root.key, got another's"
    assert caught.value.hint is not None
    assert f"rm -r {tmp_path / 'one'}" in caught.value.hint


@pytest.mark.parametrize(("days", "now"), [(3651, "2036-05-30"), (-1, "2026-05-31")])
def test_an_authority_out_of_its_time(tmp_path: Path, days: int, now: str) -> None:
    """An expired authority, or one not yet valid after a clock was turned back, is refused."""
    LoopbackAuthority.load_or_create(tmp_path, NOW)
    with pytest.raises(FreshnessError) as caught:
        LoopbackAuthority.load_or_create(tmp_path, NOW + timedelta(days=days))
    assert caught.value.message == f"{tmp_path / 'root.pem'}: want 2026-05-31 to 2036-05-29, got {now}"
    assert caught.value.hint == (
        f"set the clock, if that is wrong; or rm -r {tmp_path}, start, and give clients the new root.pem"
    )


def test_a_server_that_runs_shows_a_new_certificate(tmp_path: Path) -> None:
    """Clients after the renewal see the new one; a folder that cannot be written keeps the old one."""
    authority = LoopbackAuthority.load_or_create(tmp_path, NOW)
    context = authority.server_context(tmp_path, NAMES, NOW)
    first = shown(context)
    assert shown(context) == first
    authority.renew(context, tmp_path, NAMES, NOW + timedelta(days=30))
    assert shown(context).not_valid_after_utc == first.not_valid_after_utc + timedelta(days=30)
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=r"server\.pem: cannot be written: "):
        authority.renew(context, tmp_path / "file", NAMES, NOW)


def shown(server: ssl.SSLContext) -> x509.Certificate:
    """The certificate that a server of these settings shows."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        anybody.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    der = ends[0].getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_only_the_keys_holder_gets_a_certificate(tmp_path: Path) -> None:
    """A request that another key signed, or a malformed one, is refused."""
    authority = LoopbackAuthority.load_or_create(tmp_path, NOW)
    request = bytearray(x509.load_pem_x509_csr(ServerKey().request()).public_bytes(Encoding.DER))
    request[-1] ^= 1
    changed = x509.load_der_x509_csr(bytes(request)).public_bytes(Encoding.PEM)
    with pytest.raises(AuthenticityError, match="certificate request: want it signed by its own key"):
        authority.sign(changed, NAMES, NOW)
    der = x509.load_pem_x509_csr(ServerKey().request()).public_bytes(Encoding.DER)
    at = der.index(b"\x02\x01\x00") + 2  # the version
    later = b64encode(der[:at] + b"\x07" + der[at + 1 :])
    for malformed in (
        b"nothing",
        b"-----BEGIN CERTIFICATE REQUEST-----\n%b\n-----END CERTIFICATE REQUEST-----\n" % later,
    ):
        with pytest.raises(FormatError, match="certificate request: want PKCS#10, PEM"):
            authority.sign(malformed, NAMES, NOW)


def test_a_server_of_this_process_gets_settings(tmp_path: Path) -> None:
    """The key of a host's server is made for each run, in a file of this user's."""
    authority = LoopbackAuthority.load_or_create(tmp_path, NOW)
    authority.server_context(tmp_path, NAMES, NOW)
    first = (tmp_path / "server.pem").read_bytes()
    authority.server_context(tmp_path, NAMES, NOW)
    assert (tmp_path / "server.pem").read_bytes() != first
    assert (tmp_path / "server.pem").stat().st_mode & 0o777 == 0o600


def test_a_root_signs_nothing_but_servers(tmp_path: Path) -> None:
    """The root is an authority for servers only, and a server's certificate is not an authority."""
    authority = LoopbackAuthority.load_or_create(tmp_path, NOW)
    leaf, root = x509.load_pem_x509_certificates(authority.sign(ServerKey().request(), NAMES, NOW))
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(
        True, 0
    )
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
