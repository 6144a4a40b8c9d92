"""Fix the issuer that authorizes changes of a service's state at the service's first start.

Tokens of a service depend on its state: policies, certificates, revocations. If an operator could configure
another issuer for one start, they could change the state, restore the first issuer, and leave no trace.
"""

from __future__ import annotations

from typing import Final

from kluis.enclave.store.model import Storage, Writing
from kluis.errors import PolicyError
from kluis.formats.encoding import jcs
from kluis.services.web import Issuer

TABLE: Final = "trust"
KEY: Final = "issuer"
CHANGING: Final = "insecure_changing_issuer"


def canonical(issuer: Issuer | None, *, changing: bool) -> bytes:
    """Write an issuer, or that it may change, as canonical JSON.

    Args:
        issuer: None: nobody may change anything.
        changing: whether the settings allow another issuer at each start.

    Raises:
        FormatError: its keys are not JSON.
    """
    if changing:
        return jcs.dumps(CHANGING)
    if issuer is None:
        return jcs.dumps(None)
    keys = jcs.loads(issuer.keys.encode(), "issuer.keys")
    return jcs.dumps({"url": issuer.url, "audiences": sorted(issuer.audiences), "keys": keys})


def fix(storage: Storage, issuer: bytes) -> None:
    """Store the issuer at the first start, and refuse another one later.

    Args:
        storage: the service's.
        issuer: from :func:`canonical`. Its audiences are included: anyone who can register a service with the
            issuer can get tokens for that service, with any role.

    Raises:
        PolicyError: another one is fixed; code ``issuer_fixed``.
    """
    if (pinned := storage.get(TABLE, KEY)) is None:

        def first(store: Writing) -> bytes:
            stored = store.get(TABLE, KEY)
            if stored is None:
                store.put(TABLE, KEY, issuer)
            return issuer if stored is None else stored

        pinned = storage.update(first)
    if pinned != issuer:
        raise PolicyError(
            f"issuer: want {_name(pinned)}, which was fixed with the first start, got {_name(issuer)}",
            hint="start with the first issuer, its keys and audiences, at the same address: kluis serve with"
            " the same --port and --name; or with an empty store: another --state",
            code="issuer_fixed",
        )


def _name(issuer: bytes) -> str:
    value = jcs.loads(issuer, "issuer")
    if isinstance(value, dict):
        audiences = value.get("audiences")
        named = ", ".join(map(str, audiences)) if isinstance(audiences, list) else ""
        return f"{str(value.get('url'))[:200]} with its keys, for {named[:400] or 'nobody'}"
    return "any (insecure_changing_issuer)" if value == CHANGING else "none"
