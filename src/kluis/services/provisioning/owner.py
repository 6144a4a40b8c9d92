"""Operations for platforms and for the owner: enrolment, recovery, revocation.

Orders require a token whose roles allow ``provisioning/write``; lists require ``provisioning/read``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kluis.authority import Authority as Own
from kluis.collateral.documents import Document, Kind
from kluis.enclave.store.model import Writing
from kluis.errors import UsageError
from kluis.formats.encoding import b64
from kluis.services.clock import Clock
from kluis.services.provisioning.authority import Authority
from kluis.services.provisioning.intel import refuse_registration
from kluis.services.provisioning.platforms import Platforms
from kluis.services.provisioning.vendor import Vendor
from kluis.services.web import Answer, Call

MAX_DOCUMENTS: Final = 256
# Documents that check others come first.
_FIRST: Final = (Kind.AMD_CHAIN, Kind.PCK_CRL)


class Enrolled(msgspec.Struct):
    """A platform's response: ``certified`` and its chain (PEM), or ``pending``: an owner must approve it."""

    status: str
    chain: str | None = None


class Recovery(msgspec.Struct):
    """An order to raise the requirements for platforms.

    Attributes:
        cpusvn: 32 hex digits; by default the currently required ones.
        pcesvn: 0..65535; by default one more than currently required.
        advisories: names of the advisories that affect older levels.
    """

    cpusvn: str | None = None
    pcesvn: int | None = None
    advisories: tuple[str, ...] = ()


class Required(msgspec.Struct):
    """The requirements for up-to-date platforms, and the number of recoveries so far."""

    cpusvn: str
    pcesvn: int
    evaluation: int


class Named(msgspec.Struct):
    """A platform: ``ppid`` is 32 hex digits."""

    ppid: str


class Certification(Named):
    """An order to certify a waiting platform, or to re-certify one; by default for the TCB that it requests
    or has.

    ``key`` is the intended one, as in the list: it is required if it replaces another key.
    """

    key: str | None = None
    cpusvn: str | None = None
    pcesvn: int | None = None


class Listed(msgspec.Struct):
    """A platform, its key's name, the TCB that it is certified for or requests, and its status."""

    ppid: str
    key: str
    cpusvn: str
    pcesvn: int
    status: str


class Listing(msgspec.Struct):
    """The platforms that are certified, revoked, or waiting.

    ``rollback`` names what would detect a rollback of the records, including revocations, by the service's
    host.
    """

    platforms: tuple[Listed, ...]
    rollback: str


class Terms(msgspec.Struct):
    """Whether every platform is certified on request, or only those that an owner approves."""

    open: bool


class Uploaded(msgspec.Struct):
    """A vendor's document; ``body`` and ``chain`` are base64, as ``kluis collateral fetch`` stores them."""

    kind: str
    key: tuple[str, ...]
    body: str
    chain: str = ""


class Upload(msgspec.Struct):
    """Vendors' documents, at most 256."""

    documents: tuple[Uploaded, ...]


class Owner:
    """Answers platforms and the owner.

    Args:
        authority: of the emulated platforms.
        platforms: that it certifies.
        clock: returns the time.
    """

    def __init__(self, authority: Authority, platforms: Platforms, clock: Clock) -> None:
        self._authority = authority
        self._platforms = platforms
        self._clock = clock

    def enrol(self, call: Call) -> Answer:
        """Certify a platform that proves possession of its key, or let it wait."""
        refuse_registration(call)
        chain = self._platforms.enrol(call.body, self._clock.now())
        if chain is None:
            return Answer(Enrolled("pending"), status=202)
        return Answer(Enrolled("certified", chain.decode()), status=201)

    def recover(self, call: Call) -> Answer:
        """Raise the requirements."""
        order, now = call.json(Recovery), self._clock.now()

        def recover(own: Own, _: Writing) -> None:
            required = own.state.levels[0]
            own.recover(
                cpusvn=required.cpusvn if order.cpusvn is None else _cpusvn(order.cpusvn),
                pcesvn=required.pcesvn + 1 if order.pcesvn is None else order.pcesvn,
                advisories=order.advisories,
                now=now,
            )

        state = self._authority.change(recover)
        newest = state.levels[0]
        return Answer(Required(newest.cpusvn.hex(), newest.pcesvn, state.evaluation))

    def certify(self, call: Call) -> Answer:
        """Approve a waiting platform, or re-certify one."""
        order = call.json(Certification)
        cpusvn = None if order.cpusvn is None else _cpusvn(order.cpusvn)
        named, now = None if order.key is None else order.key.lower(), self._clock.now()
        chain = self._platforms.certify(order.ppid.lower(), cpusvn, order.pcesvn, now, named)
        return Answer(Enrolled("certified", chain.decode()))

    def refuse(self, call: Call) -> Answer:
        """Delete the request of a waiting platform."""
        self._platforms.refuse(call.json(Named).ppid.lower())
        return Answer(status=204)

    def revoke(self, call: Call) -> Answer:
        """Revoke a platform's key."""
        self._platforms.revoke(call.json(Named).ppid.lower(), self._clock.now())
        return Answer(status=204)

    def terms(self, call: Call) -> Answer:
        """Set which platforms are certified on request."""
        terms = call.json(Terms)
        self._platforms.open_to_all(terms.open)
        return Answer(terms)

    def platforms(self, call: Call) -> Answer:
        """List the platforms."""
        return Answer(
            Listing(
                tuple(
                    Listed(one.ppid, one.key, one.cpusvn, one.pcesvn, one.status)
                    for one in self._platforms.all()
                ),
                self._platforms.rollback,
            )
        )


def upload(vendor: Vendor, clock: Clock, call: Call) -> Answer:
    """Store vendors' documents, each once it is checked; stop at the first one that is not authentic."""
    uploads = call.json(Upload).documents
    if len(uploads) > MAX_DOCUMENTS:
        raise UsageError(f"documents: want at most {MAX_DOCUMENTS}, got {len(uploads)}")
    now = clock.now()
    for one in sorted(uploads, key=lambda each: each.kind not in _FIRST):
        if one.kind not in set(Kind):
            raise UsageError(f"kind: want one of {', '.join(Kind)}, got {one.kind[:40]!a}")
        document = Document(body=b64.decode(one.body, "body"), chain=b64.decode(one.chain, "chain"))
        vendor.keep(Kind(one.kind), one.key, document, now)
    return Answer(status=204)


def _cpusvn(text: str) -> bytes:
    try:
        cpusvn = bytes.fromhex(text)
    except ValueError:
        cpusvn = b""
    if len(cpusvn) != 16:
        raise UsageError(f"cpusvn: want 32 hex digits, got {text[:64]!a}")
    return cpusvn
