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
    """What the service is told.

    Attributes:
        issuer: whose bearer tokens hold.
        attestation: its settings; bytes in base64.
    """

    issuer: Issuer
    attestation: AttestationSettings


def build(document: bytes, place: Place) -> Service:
    """The service, as its settings (JSON) say.

    Raises:
        UsageError: the settings are of another shape; says where.
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
