"""What ``kluis serve`` says once all is ready: Python that points clients at each service, to paste."""

from __future__ import annotations

import os

from kluis.services.running.plan import Plan
from kluis.services.running.serving import Serving

__all__ = ["lines_of"]


def lines_of(plan: Plan, running: Serving) -> str:
    """Python for Azure's own clients; it reads the secret of the client ``admin`` from where it lies."""
    parts = [PACKAGES]
    if running.issuer is not None:
        url, tenant = running.authorization_parts()
        parts.append(CREDENTIAL.format(state=plan.state, url=url, tenant=tenant))
        parts.append(JAVASCRIPT.format(state=plan.state, url=url))
    for service, lines in CLIENTS.items():
        if service in plan.services:
            address = running.addresses[service]
            level = running.fleets[plan.services.index(service)].instances[0].enclave.level
            parts.append(f"\n# {service}, in an enclave of level {level}\n" + lines.format(url=address))
    parts.append(f"\n# Ctrl-C ends all; kill -HUP {os.getpid()} starts every enclave anew")
    return "\n".join(parts)


PACKAGES = "# pip install azure-identity azure-security-attestation six azure-keyvault-keys"
CREDENTIAL = """\
import json, pathlib
from azure.identity import ClientSecretCredential
state = "{state}"
ca = state + "/ca/root.pem"
clients = json.loads(pathlib.Path(state, "issuer/clients.json").read_text())
secrets = {{each["id"]: each["secret"] for each in clients}}  # development's own
credential = ClientSecretCredential(
    "{tenant}", "admin", secrets["admin"],
    authority="{url}",
    disable_instance_discovery=True, connection_verify=ca)"""
JAVASCRIPT = """
# JavaScript: new ClientSecretCredential(tenant, "admin", secret,
#     {{authorityHost: "{url}",
#     disableInstanceDiscovery: true}});
# with NODE_EXTRA_CA_CERTS={state}/ca/root.pem in the environment"""
CLIENTS = {
    "attestation": """\
from azure.security.attestation import (
    AttestationAdministrationClient, AttestationClient)
url = "{url}"
attestation = AttestationClient(url, credential, connection_verify=ca)
policies = AttestationAdministrationClient(
    url, credential, connection_verify=ca)
# AttestationManagementClient(
#     credential, "subscription", base_url=url, connection_verify=ca,
#     credential_scopes=["https://management.azure.com/.default"])""",
    "keyvault": """\
from azure.keyvault.keys import KeyClient
url = "{url}"
keys = KeyClient(url, credential, connection_verify=ca)""",
    "provisioning": """\
# dcap_qvl.get_collateral("{url}", quote)
# with SSL_CERT_FILE=CA in the environment""",
}
