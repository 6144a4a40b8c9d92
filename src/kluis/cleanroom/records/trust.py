"""A party's trust decisions: keys compared over another channel, and accepted roots.

The room's folder contains keys and roots, and anyone who can write there can replace them. So a party
confirms the fingerprint of each other party once, its own home stores it, and other keys under that name are
refused from then on. A root is a vendor's, this machine's, or one that the party accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from kluis.cleanroom.agreement import fingerprint
from kluis.cleanroom.agreement.agreement import Agreement, Party
from kluis.cleanroom.records.home import Home
from kluis.errors import AuthenticityError, PolicyError, UsageError
from kluis.evidence import TrustAnchors
from kluis.evidence.anchors import Anchor
from kluis.hashes import sha256

Standing = Literal["you", "confirmed", "not confirmed", "changed"]


class Trust:
    """One party's knowledge of a room's other parties and of its roots.

    Args:
        home: the party's own folder.
        here: root certificates in PEM from a source other than the room's folder.
    """

    def __init__(self, home: Home, here: Iterable[bytes] = ()) -> None:
        self._home = home
        self._here = {identity_of(anchor) for pem in here for anchor in TrustAnchors.from_pem(pem)}

    def standing(self, party: Party) -> Standing:
        """The status of a party's keys in a document."""
        keys = fingerprint.keys_hash(party)
        if party.id == self._home.party:
            own = fingerprint.keys_hash(self._home.public(party.name, party.roles))
            return "you" if keys == own else "changed"
        pinned = self._home.pinned_keys(party.id)
        return "not confirmed" if not pinned else "confirmed" if pinned == keys else "changed"

    def confirm(self, party: Party, entered: str) -> None:
        """Pin a party's keys, after its fingerprint was compared over another channel.

        Args:
            party: from a document.
            entered: the fingerprint that the party read out.

        Raises:
            AuthenticityError: the fingerprint does not match, or other keys were pinned before.
        """
        if not fingerprint.same(entered, fingerprint.of(party)):
            raise AuthenticityError(
                f"party {party.id}: want fingerprint {entered[:80]}, got {fingerprint.of(party)}",
                hint=f"these are not the keys of {party.id}: sign nothing, and ask who can write here",
                code="party_key",
            )
        if self.standing(party) == "not confirmed":
            self._home.pin(party.id, fingerprint.keys_hash(party))
        self.require_parties((party,))

    def require_parties(self, parties: Iterable[Party]) -> None:
        """Refuse keys that this party did not confirm.

        Raises:
            AuthenticityError: a party has other keys than the confirmed ones.
            PolicyError: a party's keys were never confirmed.
        """
        for party in parties:
            standing = self.standing(party)
            if standing == "changed":
                raise self._changed_error(party)
            if standing == "not confirmed":
                raise PolicyError(
                    f"party {party.id}: its keys are not confirmed",
                    hint=f"have {party.id} read you the output of kluis room fingerprint over another "
                    f"channel, then add --confirm {party.id}=FINGERPRINT",
                    code="party_unconfirmed",
                )

    def root(self, pem: str) -> tuple[Anchor, str]:
        """A root of an agreement, and its owner if this party knows it; else "".

        Raises:
            KluisError: not a root certificate or key.
        """
        (anchor,) = TrustAnchors.from_pem(pem.encode())
        if TrustAnchors.shipped().match(anchor.spki) is not None:
            return anchor, "a vendor's"
        if identity_of(anchor) in self._here:
            return anchor, "given by you or by this machine's platform"
        return anchor, "accepted by you before" if self._home.accepts_root(identity_of(anchor)) else ""

    def require_roots(self, roots: Iterable[str]) -> None:
        """Refuse a root that this party does not know.

        Raises:
            PolicyError: it is not a vendor's, and was never accepted.
        """
        for pem in roots:
            anchor, whose = self.root(pem)
            if not whose:
                raise PolicyError(
                    f"root {anchor.name}, level {anchor.level}: is not known to {self._home.party}",
                    hint="have the owner of that machine give you the output of kluis platform root over "
                    "another channel, then add --root FILE",
                    code="root_unknown",
                )

    def remember_roots(self, roots: Iterable[str]) -> None:
        """Accept an agreement's roots permanently, once it is signed."""
        for pem in roots:
            self._home.accept_root(identity_of(self.root(pem)[0]))

    def require_parent(self, agreement: Agreement) -> None:
        """Refuse an agreement that amends one that this party did not sign in this room.

        Raises:
            PolicyError: it does.
        """
        known = {each.hash for each in self._home.agreements(agreement.room)}
        if agreement.parent and agreement.parent not in known:
            raise PolicyError(
                f"agreement: amends {agreement.parent[:16]}.., which {self._home.party} did not sign",
                code="agreement",
            )

    def _changed_error(self, party: Party) -> AuthenticityError:
        if party.id == self._home.party:
            own = self._home.public(party.name, party.roles)
            return AuthenticityError(
                f"party {party.id}: want your own keys, fingerprint {fingerprint.of(own)}, "
                f"got {fingerprint.of(party)}",
                hint="the folder holds keys of somebody else in your name",
                code="party_key",
            )
        before = fingerprint.digits(self._home.pinned_keys(party.id))
        return AuthenticityError(
            f"party {party.id}: want the confirmed keys, fingerprint {before}, got {fingerprint.of(party)}",
            hint=f"ask {party.id} over another channel; if its keys are new, "
            f"remove {self._home.pin_path(party.id)} and confirm them",
            code="party_key",
        )


def key_of(anchor: Anchor) -> str:
    """Identify a root by the SHA-256 of its SubjectPublicKeyInfo; 64 hex digits."""
    return sha256(anchor.spki).hex()


def identity_of(anchor: Anchor) -> str:
    """Identify a root that a party accepts: its key and its level.

    The holder of an operator's key can sign another certificate of that key, with any level of such roots.
    """
    return f"{key_of(anchor)}.{anchor.level.value}"


def read_confirmations(confirmations: Iterable[str]) -> Mapping[str, str]:
    """Parse ``PARTY=FINGERPRINT`` arguments of a command line.

    Raises:
        UsageError: one has another form.
    """
    fingerprints = {}
    for each in confirmations:
        party, equals, digits = each.partition("=")
        if not equals or not party or not digits:
            raise UsageError(f"--confirm: want PARTY=FINGERPRINT, got {each[:80]!a}")
        fingerprints[party] = digits
    return fingerprints
