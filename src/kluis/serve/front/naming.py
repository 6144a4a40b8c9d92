"""The certificates of services and issuer: the loopback authority's, or the operator's own."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from kluis.serve.front.authority import LoopbackAuthority
from kluis.serve.front.certificate import OwnCertificate
from kluis.services.clock import Clock

if TYPE_CHECKING:
    from kluis.host.proxy import EnclaveProxy
    from kluis.serve.plan import Plan


class Front:
    """Gives every server of a plan its certificate.

    Attributes:
        trust: TLS settings for this host's own requests to its services.

    Args:
        plan: names, and the operator's certificate, if there is one.
        authority: issues certificates where there is none.
        clock: returns the time.

    Raises:
        KluisError: the operator's certificate cannot be used; states why.
    """

    def __init__(self, plan: Plan, authority: LoopbackAuthority, clock: Clock) -> None:
        self._plan = plan
        self._authority = authority
        self._clock = clock
        self._own = None if plan.certificate is None else OwnCertificate(*plan.certificate, plan.names, clock)
        self._folder = plan.state / "issuer"
        self._issuer: ssl.SSLContext | None = None
        if self._own is None:
            self.trust = ssl.create_default_context(cadata=authority.root_pem().decode())
        else:
            self.trust = self._own.trust

    def sign(self, request: bytes) -> bytes:
        """Certify a key that was generated inside: from PKCS#10 to a chain, both PEM."""
        return self._authority.sign(request, self._plan.server_names, self._clock.now())

    def name(self, enclave: EnclaveProxy, seconds: float) -> None:
        """Give an enclave its certificate, within so many seconds for each call."""
        if self._own is None:
            request = enclave.certificate_request.within(seconds)()
            enclave.use_certificate.within(seconds)(self.sign(request))
        else:
            pair = self._own.current
            enclave.use_key.within(seconds)(pair.key, pair.chain)

    def issuer_context(self) -> ssl.SSLContext:
        """TLS settings of the development issuer.

        Raises:
            KluisError: the folder of its key cannot be written, or the operator's files cannot be used.
        """
        if self._own is not None and self._plan.insecure_expose_issuer:
            self._issuer = self._own.server_context()
        else:
            names, now = self._plan.server_names, self._clock.now()
            self._issuer = self._authority.server_context(self._folder, names, now)
        return self._issuer

    def rename_issuer(self) -> None:
        """Make the issuer use a new certificate, before the old one expires.

        Raises:
            KluisError: as :meth:`issuer_context`; the issuer keeps its current one.
        """
        if self._issuer is None:
            return
        if self._own is not None and self._plan.insecure_expose_issuer:
            self._own.apply(self._issuer)
        else:
            names, now = self._plan.server_names, self._clock.now()
            self._authority.renew(self._issuer, self._folder, names, now)

    def reload(self) -> None:
        """Read the operator's certificate again, if there is one, for servers that start from now on.

        Raises:
            KluisError: it cannot be used; the current one stays.
        """
        if self._own is not None:
            self._own.reload()
            self.rename_issuer()
