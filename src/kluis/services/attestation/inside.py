"""The attestation service's enclave."""

from __future__ import annotations

import msgspec

from kluis.enclave import Enclave
from kluis.services import hosting
from kluis.services.attestation.app import service
from kluis.services.attestation.settings import AttestationSettings
from kluis.services.hosting import Place, read_settings
from kluis.services.web import Bearer, Issuer, Service

app = Enclave("attestation", product_id=101, svn=1)


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The service's configuration.

    Attributes:
        issuer: of the accepted bearer tokens.
        attestation: its settings; bytes in base64.
    """

    issuer: Issuer
    attestation: AttestationSettings


def build(document: bytes, place: Place) -> Service:
    """Build the service from its settings (JSON).

    Raises:
        UsageError: the settings have another shape; with the place.
    """
    document_settings = read_settings(document, Document, "attestation")
    return service(
        document_settings.attestation,
        place.storage,
        place.clock,
        Bearer(document_settings.issuer),
        vouch=place.vouch,
        ask=place.endorse,
    )


hosting.host(app, build)
