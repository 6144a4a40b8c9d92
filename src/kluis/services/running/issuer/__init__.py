"""The development issuer: bearer tokens on loopback, by every way in which Azure's clients ask for one.

A secret (:mod:`~kluis.services.running.issuer.clients`), a certificate or a federated issuer's assertion
(:mod:`~kluis.services.running.issuer.certificates`, :mod:`~kluis.services.running.issuer.federation`), and a
managed identity's endpoints (:mod:`~kluis.services.running.issuer.managed`).
"""

from kluis.services.running.issuer.certificates import Certificate
from kluis.services.running.issuer.clients import Client
from kluis.services.running.issuer.development import DevelopmentIssuer
from kluis.services.running.issuer.federation import Federated
from kluis.services.running.issuer.managed import APPLICATION_PATH, IDENTITY
from kluis.services.running.issuer.registered import Registered
from kluis.services.running.issuer.signing import CLAIMS_WANTED, TENANT, TOKEN_SECONDS

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
