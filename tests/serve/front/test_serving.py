"""Services under their operator's own certificate, at another address of loopback."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import httpx

from tests.serve.front.conftest import ADDRESS, NAMES, Fronted


def shown(url: str) -> str:
    """The certificate that a server shows, base64."""
    host, _, port = url.removeprefix("https://").partition(":")
    return ssl.get_server_certificate((host, int(port))).strip()


def leaf_of(chain: Path) -> str:
    """The first certificate of a file, in the same form."""
    end = "-----END CERTIFICATE-----"
    return chain.read_text().partition(end)[0] + end


def test_clients_reach_service_and_issuer(fronted: Fronted) -> None:
    """Clients that trust the operator's CA and no other reach both, under the planned address."""
    url, issuer = fronted.addresses["attestation"], fronted.addresses["issuer"]
    assert {each.rpartition(":")[0] for each in (url, issuer)} == {f"https://{ADDRESS}"}
    with httpx.Client(verify=fronted.trust(), timeout=120) as client:
        assert client.get(f"{url}/health/ready").json() == {"status": "ready"}
        keys = client.get(f"{fronted.command.told['authorization']}/discovery/v2.0/keys")
        assert keys.json()["keys"]
    assert any(line.startswith("insecure: the development issuer") for line in fronted.command.log)


def test_a_hangup_reads_the_certificate_again(fronted: Fronted) -> None:
    """A bad renewal is reported and changes nothing; a good one is shown by service and issuer."""
    url, issuer, command = fronted.addresses["attestation"], fronted.addresses["issuer"], fronted.command
    before = leaf_of(fronted.chain)
    assert {shown(url), shown(issuer)} == {before}

    fronted.operator.issue("elsewhere.example")
    command.process.send_signal(signal.SIGHUP)
    command.wait_for(f"want a certificate for '{ADDRESS}', got one for elsewhere.example")
    assert {shown(url), shown(issuer)} == {before}

    fronted.operator.issue(*NAMES)
    command.process.send_signal(signal.SIGHUP)
    command.wait_for("every enclave was restarted")
    renewed = leaf_of(fronted.chain)
    assert renewed != before
    assert {shown(url), shown(issuer)} == {renewed}
