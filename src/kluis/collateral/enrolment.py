"""Client of a provisioning service, for a platform's host. Nothing here is verified.

The platform itself checks the response before it uses it.
"""

from __future__ import annotations

import ssl
from datetime import datetime
from typing import Final, Self

from kluis.collateral.documents import Kind
from kluis.collateral.fetch import intel_collateral
from kluis.collateral.intel import Pcs
from kluis.collateral.transport import Limits, Origin
from kluis.errors import FormatError, PolicyError, UnavailableError, foreign
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.sgx.collateral import Collateral

PATH: Final = "/sgx/certification/v4/platforms"
_WHAT: Final = "enrolment"


class Enrolling:
    """A provisioning service, for a platform's host; use it as a context manager.

    Args:
        url: ``https://host[:port]``.
        trust: the certificate authorities for its TLS; None for the system's.
        limits: on each answer.
    """

    def __init__(
        self, url: str, *, trust: ssl.SSLContext | None = None, limits: Limits | None = None
    ) -> None:
        self._origin = Origin(url, trust=trust, limits=limits)
        self._pcs = Pcs(url, roots=None, trust=trust, limits=limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._origin.__exit__(*raised)
        self._pcs.__exit__(*raised)

    @property
    def name(self) -> str:
        """For messages."""
        return self._origin.name

    def collateral(self, fmspc: bytes, now: datetime) -> Collateral:
        """Fetch the service's collateral for its platforms.

        Raises:
            UnavailableError: a document is unavailable.
            FormatError: a document is malformed.
        """
        wanted = {
            Kind.TCB_INFO: ("sgx", fmspc.hex(), "early"),
            Kind.QE_IDENTITY: ("sgx", "early"),
            Kind.PCK_CRL: ("platform",),
            Kind.ROOT_CA_CRL: (),
        }
        return intel_collateral({kind: self._pcs.get(kind, key, now) for kind, key in wanted.items()})

    def enrol(self, request: bytes) -> bytes | None:
        """Send a platform's request.

        Returns:
            The chain, PEM; or None: the service's owner must approve the platform first.

        Raises:
            PolicyError: the service refuses, with its reason.
            UnavailableError: it is unreachable or busy.
            FormatError: its response is malformed.
        """
        status, body = self._origin.post(PATH, request, _WHAT)
        if status == 202:
            return None
        if status == 201:
            chain = Members(jcs.loads(body, _WHAT), _WHAT).text("chain")
            return chain.encode()
        if 400 <= status < 500:
            raise PolicyError(
                f"enrolment: {self.name} refuses ({status}): {_reason_in(body)}",
                hint="its owner can say why; kluis explain has the codes",
                code="enrolment_refused",
            )
        raise UnavailableError(
            f"enrolment: {self.name} answers {status}, want 201 or 202: {_reason_in(body)}",
            hint="try again later",
            code="service_refused",
        )


def _reason_in(body: bytes) -> str:
    """The message of an error object, in printable text and bounded."""
    try:
        error = Members(jcs.loads(body, _WHAT), _WHAT).object("error")
        text = f"{error.text('message')} ({error.text('code')})"
    except FormatError:
        return "gives no reason"
    return foreign(text)
