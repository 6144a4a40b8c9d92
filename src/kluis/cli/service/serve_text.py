"""Print what clients need once ``kluis serve`` is ready: Python for each service, to paste.

Comments in it have the settings for Azure's other clients.
"""

from __future__ import annotations

import os
from typing import Any, Final

from kluis.serve.issuer import APPLICATION_PATH, IDENTITY
from kluis.serve.plan import MANAGED_IDENTITY, Plan
from kluis.serve.start import Serving


def lines_of(plan: Plan, running: Serving) -> str:
    """Python for Azure's own clients; it reads the secret of the client ``admin`` from its file."""
    parts = ["# pip install azure-identity"]
    parts += [f"# pip install {names}" for service, names in PACKAGES.items() if service in plan.services]
    url, tenant = running.authorization_parts()
    parts.append(CREDENTIAL.format(state=plan.state, url=url, tenant=tenant))
    parts.append(JAVASCRIPT.format(state=plan.state, url=url))
    parts.append(APPLICATION.format(url=url, path=APPLICATION_PATH, identity=IDENTITY))
    parts += [CERTIFICATE.format(name=name) for name, _ in plan.registered.certificates]
    parts += [FEDERATED.format(name=one.client) for one in plan.registered.federated]
    if plan.insecure_managed_identity:
        address = running.addresses[MANAGED_IDENTITY]
        roles = "\n".join(f"#     {role}" for role in running.issuer.clients[IDENTITY].roles)
        parts.append(MANAGED.format(url=address, identity=IDENTITY, roles=roles))
    for service, lines in CLIENTS.items():
        if service in plan.services:
            address = running.addresses[service]
            level = running.fleets[plan.services.index(service)].instances[0].enclave.level
            parts.append(f"\n# {service}, in an enclave of level {level}\n" + lines.format(url=address))
    if {"attestation", "keyvault"} <= set(plan.services):
        vault, _, suffix = running.addresses["keyvault"].removeprefix("https://").partition(".")
        parts.append(COMMAND_LINE.format(
            state=plan.state, issuer=url, tenant=tenant, vault=vault, suffix=suffix,
            attestation=running.addresses["attestation"],
        ))  # fmt: skip
    parts.append(f"\n# Ctrl-C stops all; kill -HUP {os.getpid()} restarts every enclave")
    return "\n".join(parts)


def value_of(plan: Plan, running: Serving) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "addresses": dict(running.addresses),
        "ca": str(plan.state / "ca" / "root.pem"),
        "clients": str(plan.state / "issuer" / "clients.json"),
        "authorization": running.issuer.authorization,
        "attestation_settings": running.attestation_settings,
        "images": {
            service: {
                "image_id": image.image_id.hex(),
                "mrsigner": image.mrsigner.hex(),
                "path": str(image.path),
            }
            for service, image in running.images.items()
        },
        "levels": {fleet.service: [one.enclave.level for one in fleet.instances] for fleet in running.fleets},
        "enclaves": {fleet.service: [one.enclave.pid for one in fleet.instances] for fleet in running.fleets},
        "pid": os.getpid(),
    }


PACKAGES: Final = {
    "attestation": "azure-security-attestation six",
    "keyvault": "azure-keyvault-keys",
    "ledger": "azure-confidentialledger",
    "provisioning": "dcap-qvl",
}
CREDENTIAL: Final = """\
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
JAVASCRIPT: Final = """
# JavaScript: new ClientSecretCredential(tenant, "admin", secret,
#     {{authorityHost: "{url}",
#     disableInstanceDiscovery: true}});
# with NODE_EXTRA_CA_CERTS={state}/ca/root.pem in the environment"""
APPLICATION: Final = """\
# ManagedIdentityCredential(), as in App Service, with
# IDENTITY_ENDPOINT={url}{path}
# IDENTITY_HEADER=(the secret of {identity})"""
CERTIFICATE: Final = """\
# CertificateCredential(tenant, "{name}", PEM of certificate and key, ...)"""
FEDERATED: Final = """\
# WorkloadIdentityCredential(tenant_id=tenant, client_id="{name}",
#     token_file_path=FILE, ...)"""
MANAGED: Final = """\
# insecure: AZURE_POD_IDENTITY_AUTHORITY_HOST={url}
# gives ManagedIdentityCredential(), and every process of every user of this
# machine, tokens of {identity}, with the roles
{roles}"""
COMMAND_LINE: Final = """
# Azure's command line, with
# REQUESTS_CA_BUNDLE={state}/ca/root.pem in the environment:
# az config set core.instance_discovery=false
# az cloud register -n kluis --skip-endpoint-discovery \\
#     --endpoint-active-directory {issuer} \\
#     --endpoint-active-directory-resource-id https://management.azure.com \\
#     --endpoint-resource-manager {attestation} \\
#     --endpoint-management {attestation} \\
#     --suffix-keyvault-dns .{suffix}
# az cloud set -n kluis
# az login --service-principal -u admin -p @FILE \\
#     --tenant {tenant}
# az keyvault key list --vault-name {vault}"""
CLIENTS: Final = {
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
    "ledger": """\
from azure.confidentialledger import ConfidentialLedgerClient
url = "{url}"
ledger = ConfidentialLedgerClient(
    url, credential, ledger_certificate_path=state + "/service_cert.pem")
# members govern it: the one in STATE/members, or those of --member:
# kluis ledger propose FILE --url URL --as STATE/members/member0 \\
#     --service-cert STATE/service_cert.pem
# kluis ledger status --url URL --policy FILE, of purpose channel
# CCF's tool: read_ledger.py --uncommitted STATE/ledger""",
    "provisioning": """\
# dcap_qvl.get_collateral("{url}", quote)
# with SSL_CERT_FILE=CA in the environment""",
}
