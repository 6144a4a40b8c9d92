"""``kluis serve``: what its options say that clients may show instead of a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.cli.service.serve_clients import read_registered
from kluis.errors import KluisError
from tests.serve.issuer.asserting import Client, document


def test_certificates_and_subjects(tmp_path: Path) -> None:
    """Each is read from its file, for the client that it names."""
    certificate, subject = tmp_path / "a=b.pem", tmp_path / "cluster.json"
    client = Client("reader")
    certificate.write_bytes(client.both)
    subject.write_bytes(document())
    found = read_registered([f"reader={certificate}", f"admin={certificate}"], [subject])
    assert [name for name, _ in found.certificates] == ["reader", "admin"]
    assert len(found.certificates_of("reader")) == 1
    assert [one.subject for one in found.federated_of("workload")] == ["system:serviceaccount:sums:adder"]
    assert read_registered(None, None).certificates == ()


@pytest.mark.parametrize("given", ["reader", "=x.pem", "reader="])
def test_a_certificate_without_a_client(given: str, tmp_path: Path) -> None:
    """The error has the option's expected form; a missing file is named."""
    with pytest.raises(KluisError) as caught:
        read_registered([given], None)
    assert caught.value.message.startswith(
        "client certificate: want CLIENT=PEM, got " if given != "reader=" else ".: "
    )
    with pytest.raises(KluisError, match=r"missing\.json"):
        read_registered(None, [tmp_path / "missing.json"])
