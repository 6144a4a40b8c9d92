"""The development issuer: bearer tokens on loopback, by all methods of Azure's clients.

Clients authenticate with a secret (:mod:`~kluis.serve.issuer.clients`), a certificate or a federated issuer's
assertion (:mod:`~kluis.serve.issuer.certificates`, :mod:`~kluis.serve.issuer.federation`), or use a managed
identity's endpoints (:mod:`~kluis.serve.issuer.managed`).
"""

from kluis.serve.issuer.certificates import Certificate
from kluis.serve.issuer.clients import Client
from kluis.serve.issuer.development import DevelopmentIssuer
from kluis.serve.issuer.federation import Federated
from kluis.serve.issuer.managed import APPLICATION_PATH, IDENTITY
from kluis.serve.issuer.registered import Registered
from kluis.serve.issuer.signing import CLAIMS_WANTED, TENANT, TOKEN_SECONDS

__all__ = [
    "APPLICATION_PATH",
    "CLAIMS_WANTED",
    "IDENTITY",
    "TENANT",
    "TOKEN_SECONDS",
    "Certificate",
    "Client",
    "DevelopmentIssuer",
    "Federated",
    "Registered",
]
