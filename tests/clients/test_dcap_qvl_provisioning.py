"""Another vendor's client (``dcap-qvl``) gets collateral from our provisioning service, as from any PCCS."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.authority.enrolment import name_of, point
from kluis.enclave.store.sealed import SealedStore
from kluis.evidence import TrustAnchors
from kluis.formats.sgx.collateral import Collateral
from kluis.testing.plugin import storage
from tests.evidence.forge import NOW, Forge
from tests.services.provisioning.serving import Platform, Served

__all__ = ["storage"]

dcap_qvl = pytest.importorskip("dcap_qvl", reason="pip install dcap-qvl")

# A private authority of TLS is named in the environment, and so to a separate process. That process ends
# without finalising the interpreter: threads of the client may still run then, and crash it.
FETCH = """
import asyncio, os, sys, dcap_qvl
async def fetch(): return await dcap_qvl.get_collateral(sys.argv[1], sys.stdin.buffer.read())
try:
    print(asyncio.run(fetch()).to_json(), flush=True)
except ValueError as error:
    print(error, file=sys.stderr, flush=True)
    os._exit(1)
os._exit(0)
"""


class Enrolled(Forge):
    """A platform whose certificate, root and collateral are the service's."""

    def __init__(self, served: Served) -> None:
        super().__init__()
        self.served = served
        self.asks = Platform()
        self.asks.pck, self.asks.ppid = self.platform.pck, self.platform.ppid
        self.anchors = TrustAnchors.from_pem(served.root())
        self.root = x509.load_pem_x509_certificate(served.root())
        self.enrol()

    def enrol(self, pcesvn: int = 1) -> None:
        """Ask the service, and quote with the chain that comes back."""
        self.asks.pcesvn = pcesvn
        self.served.clock.at += timedelta(seconds=1)  # a request is made later than the one before
        answer = self.served.enrol(self.asks)
        assert answer.status_code == 201, answer.text
        chain = answer.json()["chain"].encode()
        self.platform = self.platform.under(chain, cpusvn=self.asks.cpusvn, pcesvn=pcesvn)

    def theirs(self) -> Any:
        """What their client fetches and their verifier returns: the report, or the error."""

        async def fetch() -> Any:
            return await dcap_qvl.get_collateral(self.served.plain, self.quote())

        collateral, root = asyncio.run(fetch()), self.root.public_bytes(Encoding.DER)
        return dcap_qvl.verify_with_root_ca(self.quote(), collateral, root, int(self.served.now.timestamp()))


@pytest.fixture
def served(storage: SealedStore, tmp_path: Path) -> Iterator[Served]:
    """The service on loopback, open to every platform."""
    with Served(storage, NOW, tmp_path) as running:
        running.order("terms", open=True)
        yield running


def test_fetches_and_accepts(served: Served) -> None:
    """Their client fetches from our service, and their verifier finds the platform UpToDate."""
    enrolled = Enrolled(served)
    report = enrolled.theirs()
    assert (report.status, report.advisory_ids) == ("UpToDate", [])
    assert report.ppid == enrolled.platform.ppid


def test_fetches_over_tls(served: Served) -> None:
    """Over TLS, too, under a private authority that ``SSL_CERT_FILE`` names; ours accepts what it fetched."""
    enrolled = Enrolled(served)
    quote = enrolled.quote()
    done = subprocess.run(
        [sys.executable, "-c", FETCH, served.url],
        input=quote,
        capture_output=True,
        env={**os.environ, "SSL_CERT_FILE": str(served.ca)},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    fetched = Collateral.from_json(done.stdout)
    claims = enrolled.verify(quote, fetched, anchors=enrolled.anchors)
    assert claims.tcb.status == "UpToDate"


def test_not_without_naming_the_authority(served: Served) -> None:
    """A client to whom nobody named the private authority fetches nothing."""
    done = subprocess.run(
        [sys.executable, "-c", FETCH, served.url],
        input=Enrolled(served).quote(),
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert b"Failed to get collateral" in done.stderr


def test_sees_recovery_revocation_and_certification(served: Served) -> None:
    """OutOfDate after a recovery, UpToDate once certified again, refused once revoked; a new key is good."""
    enrolled = Enrolled(served)
    served.order("recover", advisories=["KLUIS-SA-1"])
    report = enrolled.theirs()
    assert (report.status, report.advisory_ids) == ("OutOfDate", ["KLUIS-SA-1"])
    enrolled.enrol(pcesvn=2)
    assert enrolled.theirs().status == "UpToDate"
    served.order("revoke", ppid=enrolled.platform.ppid.hex())
    with pytest.raises(ValueError, match="Verification failed"):
        enrolled.theirs()
    enrolled.platform = enrolled.platform.renew()
    enrolled.asks.pck = enrolled.platform.pck
    assert served.enrol(enrolled.asks).status_code == 202
    named = name_of(point(enrolled.asks.pck.public_key()))
    assert served.order("certify", ppid=enrolled.platform.ppid.hex(), key=named).status_code == 200
    enrolled.enrol(pcesvn=2)
    assert enrolled.theirs().status == "UpToDate"
