"""Refuse replayed requests: an older request than one already seen has no effect.

A request is valid for ten minutes, and anyone on its way can store it. So the newest time seen for a key
counts: of its waiting request, of one that an owner refused, or of one that was answered with a certificate.
"""

from __future__ import annotations

from typing import Final

from kluis.authority.enrolment import Enrolment, name_of
from kluis.enclave.store.model import Reading, Writing
from kluis.errors import FreshnessError
from kluis.services.provisioning.records import Pending, Platform, Refused, decode, encode

PENDING: Final = "pending"
REFUSED: Final = "refused"
EVERYONE: Final = "everyone"
MAX_PENDING: Final = 256


def refuse(store: Reading, known: Platform | None, request: Enrolment) -> None:
    """Refuse a request that is older than the last one seen for its key; a waiting one may be repeated.

    Args:
        store: the service's.
        known: the platform with that name, if there is one.
        request: to check.

    Raises:
        FreshnessError: code ``enrolment_stale``.
    """
    if known is not None and request.made < known.made:
        raise _stale(f"{known.made} or later, as was seen", request)
    certified = known is not None and known.key == request.key
    if (
        known is not None
        and certified
        and request.made == known.made
        and known.certificate(request.cpusvn, request.pcesvn) is None
    ):
        raise _stale(f"later than {known.made}, as was seen", request)
    ppid = request.ppid.hex()
    data = store.get(PENDING, ppid)
    if data is not None and (waits := decode(data, Pending)).key == request.key:
        same = (waits.cpusvn, waits.pcesvn) == (request.cpusvn, request.pcesvn)
        if request.made < waits.made or (request.made == waits.made and not same):
            raise _stale(f"later than {waits.made}, of the request that waits", request)
    for name in (_asker(ppid, request.key), *(() if certified else (EVERYONE,))):
        data = store.get(REFUSED, name)
        if data is not None and request.made <= (refused := decode(data, Refused)).made:
            raise _stale(f"later than {refused.made}, of a request that the owner refused", request)


def remember(store: Writing, ppid: str, waits: Pending) -> None:
    """Record that an owner refused the request of an uncertified key.

    A certified platform's record contains the time itself. For others, a limited number is stored by name.
    The newest time of the dropped ones is a limit for all uncertified keys, so that many refusals do not make
    the first requests acceptable again.
    """
    store.put(REFUSED, _asker(ppid, waits.key), encode(Refused(made=waits.made)))
    refused = sorted(
        (decode(data, Refused).made, name) for name, data in store.scan(REFUSED) if name != EVERYONE
    )
    for made, name in refused[:-MAX_PENDING]:
        store.delete(REFUSED, name)
        floor = store.get(REFUSED, EVERYONE)
        if floor is None or decode(floor, Refused).made < made:
            store.put(REFUSED, EVERYONE, encode(Refused(made=made)))


def _asker(ppid: str, key: bytes) -> str:
    return f"{ppid}/{name_of(key)}"


def _stale(want: str, request: Enrolment) -> FreshnessError:
    return FreshnessError(f"enrolment.made: want {want}, got {request.made}", code="enrolment_stale")
