"""The sets of authorities and issuer that a vault trusts, trusted before, and may trust next if approved.

A set is exactly the authorities and the issuer of bearer tokens. An operator's start cannot change either: an
administrator of the present issuer approves the next set, and a start under exactly that set adopts it. No
release policy is extended by that: it stores the number of the set that it was made under, and an authority
must be unchanged since that set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kluis.appraisal.tokens.signed_claims import origin
from kluis.enclave.store.model import Reading, Writing
from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.hashes import sha256
from kluis.services.issuers import CHANGING
from kluis.services.keyvault.faults import BadParameter
from kluis.services.keyvault.vault import audit
from kluis.services.keyvault.vault.authorities import Authority, canonical, service_of
from kluis.services.keyvault.vault.records import decode, encode

TABLE, KEY = "vault", "approved"
MOST_SETS: Final = 256
MOST_SIZE: Final = 4 << 20


class Trust(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One set.

    Attributes:
        authorities: canonical JSON, from :func:`canonical`.
        issuer: canonical JSON; or that it may change.
    """

    authorities: bytes
    issuer: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the document to approve, hex."""
        return sha256(proposal(self)).hex()


class Approved(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The approved set for the vault's next start.

    Attributes:
        trust: the set.
        subject: of the approver's token.
    """

    trust: Trust
    subject: str


def proposal(trust: Trust) -> bytes:
    """A set as the document to show, send and approve: canonical JSON."""
    return jcs.dumps(
        {
            "authorities": jcs.loads(trust.authorities, "authorities", max_size=MOST_SIZE),
            "issuer": jcs.loads(trust.issuer, "issuer", max_size=MOST_SIZE),
        }
    )


def read(document: bytes) -> Trust:
    """Parse a set from its document.

    Raises:
        BadParameter: not a set; with the place.
    """
    try:
        value = jcs.loads(document, "trust", max_size=MOST_SIZE, max_depth=16)
        if not isinstance(value, dict) or set(value) != {"authorities", "issuer"}:
            raise FormatError("trust: want authorities and issuer, got another")
        authorities = canonical(msgspec.convert(value["authorities"], tuple[Authority, ...]))
        issuer = value["issuer"]
        named = isinstance(issuer, dict) and set(issuer) == {"url", "audiences", "keys"}
        if issuer != CHANGING and not named:
            raise FormatError(f"trust.issuer: want url, audiences and keys, or {CHANGING}, got another")
        return Trust(authorities, jcs.dumps(issuer))
    except msgspec.ValidationError as error:
        raise BadParameter(f"trust.authorities: {error}") from None
    except FormatError as error:
        raise BadParameter(error.message) from None


def read_approval(reading: Reading) -> Approved | None:
    """The approved next set, if there is one."""
    value = reading.get(TABLE, KEY)
    return None if value is None else decode(Approved, value, "stored approval")


def approve(writing: Writing, trust: Trust, subject: str, now: int) -> None:
    """Approve a set for the next start; it replaces an earlier approval."""
    writing.put(TABLE, KEY, encode(Approved(trust, subject)))
    audit.append(writing, audit.Event("trust-approve", "", "", subject, now, target=trust.digest))


def withdraw(writing: Writing, subject: str, now: int) -> bool:
    """Delete the approval; return whether there was one."""
    approval = read_approval(writing)
    if approval is None:
        return False
    writing.delete(TABLE, KEY)
    audit.append(writing, audit.Event("trust-withdraw", "", "", subject, now, target=approval.trust.digest))
    return True


def settle(writing: Writing, trust: Trust, now: int) -> bool:
    """Use up an approval, if it is for exactly this set; return whether it was."""
    approval = read_approval(writing)
    if approval is None or approval.trust != trust:
        return False
    writing.delete(TABLE, KEY)
    audit.append(writing, audit.Event("trust-adopt", "", "", approval.subject, now, target=trust.digest))
    return True


def meanings(trust: Trust) -> Mapping[str, bytes]:
    """The definition of each authority in a set, by its URL in release policies and tokens."""
    entries = jcs.loads(trust.authorities, "authorities", max_size=MOST_SIZE)
    return {
        origin(entry["url"]): jcs.dumps(entry)
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    }


def meaning(known: Mapping[str, bytes], issuer: str) -> bytes | None:
    """The definition of an issuer in a set: one of its authorities, or an instance of an attested one; else
    None.

    Args:
        known: from :func:`meanings`.
        issuer: its URL, in the form of ``origin``.
    """
    if issuer in known:
        return known[issuer]
    service = known.get(service_of(issuer) or "")
    entry = None if service is None else jcs.loads(service, "authority", max_size=MOST_SIZE)
    return service if isinstance(entry, dict) and entry.get("type") == "attested" else None
