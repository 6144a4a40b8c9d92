"""Certificates: accepted by OpenSSL's strict verifier."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from kluis.ledger import certificates
from tests.ledger import making

NOW = datetime.now(UTC)


def test_strictly_verified(tmp_path: Path) -> None:
    """A node's certificate verifies under the service's, strictly, for each of its names."""
    service = certificates.service_certificate(making.key(1), NOW)
    node = certificates.node_certificate(
        making.key(0).public_key(), making.key(1), service, NOW, names=("localhost", "127.0.0.1", "a.example")
    )
    (tmp_path / "service.pem").write_text(service)
    (tmp_path / "node.pem").write_text(node)
    for words in (["-verify_hostname", "a.example"], ["-verify_ip", "127.0.0.1"]):
        command = ["openssl", "verify", "-x509_strict", *words, "-CAfile", "service.pem", "node.pem"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "node.pem: OK\n"), done.stderr
    done = subprocess.run(
        [*command[:3], "-verify_hostname", "b.example", "-CAfile", "service.pem", "node.pem"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0


def test_profile() -> None:
    """The service's may sign one certificate below it; the node's has no usages; both began a minute ago."""
    service = x509.load_pem_x509_certificate(certificates.service_certificate(making.key(1), NOW).encode())
    node = x509.load_pem_x509_certificate(
        certificates.node_certificate(
            making.key(0).public_key(),
            making.key(1),
            certificates.service_certificate(making.key(1), NOW),
            NOW,
        ).encode()
    )
    constraints = service.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert service.extensions.get_extension_for_class(x509.KeyUsage).critical
    for absent in (x509.KeyUsage, x509.ExtendedKeyUsage):
        with pytest.raises(x509.ExtensionNotFound):
            node.extensions.get_extension_for_class(absent)
    for each in (service, node):
        assert abs(each.not_valid_before_utc - (NOW - timedelta(minutes=1))) < timedelta(seconds=1)
