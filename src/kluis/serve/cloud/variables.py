"""The environment variables for clients of a local cloud, none of which is a secret."""

from __future__ import annotations

from typing import Final

from kluis.errors import UnavailableError
from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Run

CLIENT: Final = "admin"
"""The client that the certificate in the folder is of."""
FOLDER: Final = "KLUIS_CLOUD"
"""The variable that names the folder."""


def of(folder: Folder, run: Run) -> dict[str, str]:
    """The variables, by name; none of them is a secret.

    Raises:
        UnavailableError: the services do not serve yet.
    """
    if run.phase != "ready":
        raise UnavailableError(
            f"{folder.path}: its services do not serve yet", hint="kluis wait", code="cloud_starting"
        )
    ledger = {"KLUIS_LEDGER_CERTIFICATE": str(folder.ledger_certificate)}
    return {
        "AZURE_AUTHORITY_HOST": run.issuer,
        "AZURE_TENANT_ID": run.tenant,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_CLIENT_CERTIFICATE_PATH": str(folder.client),
        "AZURE_CONFIG_DIR": str(folder.az),
        "SSL_CERT_FILE": str(folder.roots),
        "REQUESTS_CA_BUNDLE": str(folder.roots),
        "NODE_EXTRA_CA_CERTS": str(folder.authority),
        FOLDER: str(folder.path),
        **{f"KLUIS_{each.name.upper()}_URL": each.url for each in run.services},
        **(ledger if folder.ledger_certificate.exists() else {}),
    }
