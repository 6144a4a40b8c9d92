"""Prove that the authority's root key is this enclave's: a certificate of it that carries evidence.

Owners who do not run the service check it with :func:`kluis.appraisal.tokens.vouching.check` before they
publish the root. The evidence also names the service's settings, because the operator chooses whose tokens
are orders.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from kluis.authority import issuing
from kluis.errors import UnavailableError
from kluis.formats import x509
from kluis.formats.kluis import vouched
from kluis.formats.kluis.bundle import EvidenceBundle
from kluis.hashes import sha256
from kluis.services.clock import Clock
from kluis.services.provisioning.authority import Authority
from kluis.services.web import Answer, Call

LIFE: Final = timedelta(days=90)
RENEW_AFTER: Final = timedelta(days=1)


Vouch: TypeAlias = Callable[[bytes], EvidenceBundle]
"""Has this enclave quote a payload, exactly as it is given, for the purpose ``app``."""


class VouchedRoot:
    """Serves the root key's certificate.

    Args:
        authority: of the root; already opened.
        document: the settings document that the service was started with, as received.
        vouch: makes evidence; None if there is no enclave.
        clock: returns the time.
    """

    def __init__(self, authority: Authority, document: bytes, vouch: Vouch | None, clock: Clock) -> None:
        self._authority = authority
        self._document = document
        self._vouch = vouch
        self._clock = clock
        self._made: tuple[datetime, bytes] | None = None

    def certificate(self, call: Call) -> Answer:
        """The certificate, DER; re-issued each day.

        Raises:
            UnavailableError: this is not an enclave.
        """
        now = self._clock.now()
        made = self._made
        if made is None or not timedelta(0) <= now - made[0] < RENEW_AFTER:
            made = self._made = now, self._certificate(now)
        return Answer(made[1], content_type="application/pkix-cert")

    def settings(self, call: Call) -> Answer:
        """The service's settings, whose digest is in the evidence; nothing in it is secret."""
        return Answer(self._document, content_type="application/json")

    def _certificate(self, now: datetime) -> bytes:
        if self._vouch is None:
            raise UnavailableError("root: want an enclave whose evidence covers it, got a plain process")
        own = self._authority.load()
        (root,) = x509.parse_pem(own.root_pem(), "root")
        made = self._vouch(vouched.statement(root.spki, sha256(self._document)))
        return issuing.carrying(own.root_pem(), own.keys.root, vouched.extensions(made), now, LIFE)
