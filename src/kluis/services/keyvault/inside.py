"""The key service's enclave."""

from __future__ import annotations

from kluis.enclave import Enclave
from kluis.evidence import Collateral
from kluis.services import hosting
from kluis.services.hosting import Place, read_settings
from kluis.services.keyvault.app import service
from kluis.services.keyvault.settings import Settings
from kluis.services.web import Service

app = Enclave("keyvault", product_id=102, svn=1)


def build(document: bytes, place: Place) -> Service:
    """Build the service from its settings (JSON).

    Raises:
        UsageError: the settings have another shape; with the place.
    """
    settings = read_settings(document, Settings, "keyvault")

    def endorse(quote: bytes) -> Collateral:
        return Collateral.from_json(place.endorse("sgx", quote))

    return service(
        settings,
        place.storage,
        place.clock,
        fetch=place.fetch,
        endorse=endorse,
        certify=place.certify,
        vouch=place.vouch,
    )


hosting.host(app, build)
