"""Checks of what keeps a ledger readable: recovery shares, the chain of secrets, claims and private parts.

1. Shares are for each active member with an encryption key, each as long as the member's key.
2. The threshold is at most the number of members who take part.
3. Each past secret follows the one before it, and names the entry that holds it.
4. A snapshot's digest is the claims digest of its entry.
5. With the ledger's secrets: each entry opens, and its commit evidence is its own.
6. What a user wrote through Azure's REST has the claims digest of its entry: of a private ledger, with the
   secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from kluis.errors import AuthenticityError, KluisError
from kluis.formats.ccf import tables
from kluis.formats.ccf.domain import parse_writes
from kluis.formats.ccf.entry import Entry
from kluis.formats.ccf.shares import PastSecret, RecoveryShares
from kluis.formats.ccf.values import read_json
from kluis.formats.encoding.members import Members
from kluis.ledger import claims
from kluis.ledger.audit.report import Check, Findings
from kluis.ledger.audit.state import State
from kluis.ledger.audit.walk import Seen
from kluis.ledger.certificates import NOT_READABLE
from kluis.ledger.secrets import Secrets, evidence_digest

_OWNER: Final = "Owner"
_ABSENT: Final = "NonParticipant"


class Keeping:
    """Judges each entry that holds shares, a secret or a claim.

    Args:
        findings: takes failures.
        secrets: the ledger's; None: nothing is opened.
    """

    def __init__(self, findings: Findings, secrets: Secrets | None) -> None:
        self._findings = findings
        self._secrets = secrets
        self._past: PastSecret | None = None
        self._past_at = 0
        self._held: set[int] = set()
        self.shares = 0
        self.links = 0
        self.claims = 0
        self.entries = 0
        self.opened = 0

    def judge(self, seen: Seen, state: State) -> None:
        """Judge an entry that is already part of ``state``."""
        writes = seen.domain.writes
        if (raw := writes.get(tables.RECOVERY_SHARES, {}).get(tables.ONLY)) is not None:
            self._shares(RecoveryShares.parse(raw, "recovery shares"), state)
            self._held.add(seen.txid.seqno)
            self.shares += 1
        if (raw := writes.get(tables.PAST_SECRETS, {}).get(tables.ONLY)) is not None:
            self._link(PastSecret.parse(raw, "past secret"), seen.txid.seqno)
            self.links += 1
        if (raw := writes.get(tables.SNAPSHOT_EVIDENCE, {}).get(tables.ONLY)) is not None:
            digest = Members(read_json(raw, "snapshot evidence"), "snapshot evidence").hex("hash", 32)
            if seen.domain.claims_digest is not None:
                self.claims += 1
                if seen.domain.claims_digest != digest:  # 4
                    got = seen.domain.claims_digest.hex()
                    self._findings.fail(Check.CLAIMS, f"want claims digest {digest.hex()}, got {got}")
        self._entry(seen, writes.get(claims.PUBLIC_ENTRIES, {}))
        if self._secrets is not None:
            self._open(seen, self._secrets)

    def _shares(self, shares: RecoveryShares, state: State) -> None:
        wanted: dict[str, int] = {}
        participants = 0
        for member, raw in state.table(tables.MEMBERS).items():
            info = Members(read_json(raw, "member"), "member")
            pem = state.table(tables.MEMBER_KEYS).get(member)
            role = info.text("recovery_role") if "recovery_role" in info else None
            if info.text("status") != "Active" or pem is None or role == _ABSENT:
                continue
            wanted[member.decode("ascii", "replace")] = _rsa_bytes(pem)
            participants += role != _OWNER
        sizes = {member: len(share) for member, share in shares.shares.items()}
        if sizes.keys() != wanted.keys():  # 1
            self._findings.fail(
                Check.SHARES,
                f"want shares for {len(wanted)} members, got {len(sizes)} for others",
            )
        elif sizes != wanted:
            self._findings.fail(Check.SHARES, "want shares as long as the members' keys, got others")
        raw_config = state.only(tables.SERVICE_CONFIG)
        if raw_config is not None:  # 2
            config = Members(read_json(raw_config, "service configuration"), "service configuration")
            threshold = config.integer("recovery_threshold") if "recovery_threshold" in config else 0
            if threshold > participants:
                self._findings.fail(Check.SHARES, f"want a threshold up to {participants}, got {threshold}")

    def _link(self, past: PastSecret, seqno: int) -> None:  # 3
        before, at = self._past, self._past_at
        if before is not None:
            want = at + 1 if before.next_version is None else before.next_version
            if past.version != want:
                self._findings.fail(
                    Check.SECRETS, f"want a past secret of version {want}, got {past.version}"
                )
            if past.previous is not None and past.previous not in self._held and past.previous != at:
                self._findings.fail(Check.SECRETS, f"names entry {past.previous}, which holds no secret")
        elif past.version is not None:
            self._findings.note(
                Check.SECRETS, f"begins with a secret of version {past.version} before it", here=True
            )
        if past.next_version is not None and past.next_version > seqno + 1:
            self._findings.fail(
                Check.SECRETS, f"want a next version up to {seqno + 1}, got {past.next_version}"
            )
        self._past, self._past_at = past, seqno

    def _open(self, seen: Seen, secrets: Secrets) -> None:  # 5
        entry = Entry.parse(seen.raw, "entry")
        try:
            secret = secrets.at(seen.txid.seqno)
            private = secret.open(entry.tag, entry.iv, entry.public, entry.private, "entry")
            names = parse_writes(private, "private domain")
        except AuthenticityError as error:
            self._findings.fail(Check.PRIVATE, error.message)
            return
        except KluisError as error:
            self._findings.fail(Check.PRIVATE, f"holds no private domain: {error.message}")
            return
        self.opened += 1
        self._entry(seen, names.get(claims.PRIVATE_ENTRIES, {}))
        if any(map(tables.is_public, names)):
            self._findings.fail(Check.PRIVATE, "holds a public table in its private domain")
        digest = seen.domain.evidence_digest
        if digest is not None and digest != evidence_digest(secret.evidence(seen.txid)):
            self._findings.fail(Check.PRIVATE, "holds other commit evidence than its own")

    def _entry(self, seen: Seen, rows: Mapping[bytes, bytes | None]) -> None:  # 6
        for collection, value in rows.items():
            want = None if value is None else claims.digest_of_entry(collection, value)
            if want is not None:
                self.entries += 1
                if seen.domain.claims_digest != want:
                    got = (seen.domain.claims_digest or b"").hex() or "none"
                    self._findings.fail(
                        Check.CLAIMS, f"want claims digest {want.hex()} of its contents, got {got}"
                    )


def _rsa_bytes(pem: bytes) -> int:
    """The size of a member's key in bytes; 0 if it is not an RSA key."""
    try:
        key = load_pem_public_key(pem)
    except NOT_READABLE:
        return 0
    return key.key_size // 8 if isinstance(key, rsa.RSAPublicKey) else 0
