"""The provisioning service's enclave."""

from __future__ import annotations

from kluis.enclave import Enclave
from kluis.services import hosting
from kluis.services.hosting import Place, read_settings
from kluis.services.provisioning.app import Settings, service
from kluis.services.web import Service

app = Enclave("provisioning", product_id=103, svn=1)


def build(document: bytes, place: Place) -> Service:
    """Build the service from its settings (JSON).

    Raises:
        UsageError: the settings have another shape; with the place.
    """
    settings = read_settings(document, Settings, "provisioning")
    return service(
        settings, place.storage, place.clock, from_host=place.published, document=document, vouch=place.vouch
    )


hosting.host(app, build)
