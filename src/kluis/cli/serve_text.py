"""What ``kluis serve`` says once all is ready: for each service, the lines that point its client at it."""

from __future__ import annotations

from kluis.services.running.plan import Plan
from kluis.services.running.serving import Serving

__all__ = ["lines_of"]


def lines_of(plan: Plan, running: Serving) -> str:
    """Lines of Python, in Azure's own clients, and where secrets lie."""
    ca = plan.state / "ca" / "root.pem"
    parts = []
    if running.issuer is not None:
        url, tenant = running.authorization_parts()
        parts.append(
            f"# tokens, from the development issuer; secrets of its clients are in\n"
            f"# {plan.state}/issuer/clients.json\n"
            f'ca = "{ca}"\n'
            f"credential = ClientSecretCredential(\n"
            f'    "{tenant}", "admin", SECRET, authority="{url}",\n'
            f"    disable_instance_discovery=True, connection_verify=ca)"
        )
    for service, line in CLIENTS.items():
        if service in plan.services:
            address = running.addresses[service]
            level = running.fleets[plan.services.index(service)].instances[0].enclave.level
            parts.append(f"# {service}, at level {level}\n" + line.format(url=address))
    return "\n".join(parts)


CLIENTS = {
    "attestation": (
        'AttestationClient("{url}", credential, connection_verify=ca)\n'
        'AttestationAdministrationClient("{url}", credential, connection_verify=ca)\n'
        "AttestationManagementClient(\n"
        '    credential, "subscription", base_url="{url}", connection_verify=ca,\n'
        '    credential_scopes=["https://management.azure.com/.default"])'
    ),
    "keyvault": 'KeyClient("{url}", credential, connection_verify=ca)',
    "provisioning": 'dcap_qvl.get_collateral("{url}", quote)  # SSL_CERT_FILE=$ca',
}
