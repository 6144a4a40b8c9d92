"""Vendors' own documents on their services' paths: Intel's under ``/intel``, AMD's on AMD's own paths.

If the service has no authority, Intel's are also on Intel's own paths.

Spec: Intel PCS API v4; AMD 57230, "KDS interface".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kluis.collateral.documents import Kind
from kluis.collateral.paths import answer
from kluis.errors import FreshnessError, KluisError, UnavailableError, UsageError
from kluis.services.clock import Clock
from kluis.services.provisioning.intel import DER, HEX, JSON, PEM, crl_wanted, encode_crl, refusal, release
from kluis.services.provisioning.vendor import Vendor
from kluis.services.web import Answer, Call

PREFIX: Final = "/intel"
ROOT_CRL: Final = "/IntelSGXRootCA.der"
PCK_CRL: Final = "/sgx/certification/v4/pckcrl"
_TYPES: Final = {Kind.VCEK: "application/pkix-cert", Kind.AMD_CHAIN: PEM, Kind.AMD_CRL: DER}


class VendorPaths:
    """Answers the vendors' paths from stored documents.

    Args:
        vendor: returns checked documents.
        clock: returns the time.
    """

    def __init__(self, vendor: Vendor, clock: Clock) -> None:
        self._vendor = vendor
        self._clock = clock

    def answer(self, call: Call) -> Answer:
        """Return the document that the path names."""
        release(call)
        path = call.target.removeprefix(PREFIX)
        query = {name: text for name, text in call.query.items() if name != "encoding"}
        kind, headers, body = self._find(call, path, query)
        content_type = _TYPES.get(kind, JSON)
        if kind in {Kind.PCK_CRL, Kind.ROOT_CA_CRL}:
            usual = DER if path.endswith(".der") else HEX
            body, content_type = encode_crl(call, body, usual)
        return Answer(body, content_type=content_type, headers={**headers, "Request-ID": call.request_id})

    def crl(self, call: Call) -> Answer:
        """Return Intel's CRL at the address in one of Intel's certificates: DER."""
        ca = crl_wanted(call)
        path, query = (ROOT_CRL, {}) if ca is None else (PCK_CRL, {"ca": ca})
        _, _, body = self._find(call, path, query)
        return Answer(body, content_type=DER, headers={"Request-ID": call.request_id})

    def _find(self, call: Call, path: str, query: Mapping[str, str]) -> tuple[Kind, dict[str, str], bytes]:
        try:
            (kind, _), document = self._vendor.get(path, query, self._clock.now())
        except KluisError as error:
            raise refusal(call, _status(error), error.message, hint=error.hint, code=_code(error)) from None
        return kind, *answer(kind, document)


def _status(error: KluisError) -> int:
    match error:
        case UsageError():
            return 400
        case UnavailableError(code="collateral_missing"):
            return 404
        case UnavailableError() | FreshnessError():
            return 503
        case _:
            return 502  # the stored document is not authentic: the cache is poisoned


def _code(error: KluisError) -> str | None:
    return None if isinstance(error, UsageError) else error.code
