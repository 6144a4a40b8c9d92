"""Recovery shares, from the members' side: what each is given, and what they submit after a disaster.

A submitted share is kept encrypted under the present ledger secret, so that another node can go on counting.

Spec: CCF, "Members Recovery", ``src/node/gov/handlers/recovery.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag

from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.ccf import tables
from kluis.formats.ccf.shares import SHARE_SIZE, RecoveryShares, Share
from kluis.formats.ccf.values import read_json
from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.ledger import shares
from kluis.ledger.governance import requests
from kluis.ledger.governance.documents import (
    read_object,
    recovery_keys,
    service_config,
    service_info,
    write_json,
)
from kluis.ledger.governance.faults import (
    InvalidInput,
    NoSuchResource,
    NotWaitingForShares,
    OtherMember,
    SharesDoNotFit,
)
from kluis.ledger.governance.requests import Request
from kluis.ledger.secrets import LedgerSecret
from kluis.ledger.store import Transaction

_NONCE: Final = 12


@frozen
class Submitted:
    """What a submission came to.

    Attributes:
        count: how many shares are there.
        threshold: how many are needed.
        secret: the ledger secret that they opened; None while there are too few.
    """

    count: int
    threshold: int
    secret: LedgerSecret | None


def encrypted_share(transaction: Transaction, member_id: str) -> bytes:
    """The share of a member, encrypted with the member's key.

    Raises:
        NoSuchResource: the member has none.
    """
    data = transaction.get(tables.RECOVERY_SHARES, tables.ONLY)
    share = None if data is None else RecoveryShares.parse(data, tables.RECOVERY_SHARES).shares.get(member_id)
    if share is None:
        raise NoSuchResource(f"member {member_id[:64]!a}: has no recovery share")
    return share


def submit(
    transaction: Transaction,
    request: Request,
    member_id: str,
    present: LedgerSecret,
    version: int,
    random: Callable[[int], bytes],
) -> Submitted:
    """Take a member's share, and open the ledger secret once there are enough.

    Args:
        transaction: to run in. It is to be committed only if this returns.
        request: of kind ``recovery_share``, whose payload is ``{"share": base64}``.
        member_id: of the path.
        present: the ledger secret since the recovery began.
        version: from which seqno the secret that is recovered is valid.
        random: gives so many unpredictable bytes.

    Raises:
        SharesDoNotFit: there are enough, and together they do not open the secret: :func:`clear` them.
        InvalidInput: it is no share, or not this member's.
        GovernanceError: it is refused.
    """
    signer = requests.authenticate(transaction, request)
    if signer != member_id:
        raise OtherMember(f"request: want a signature of {member_id[:64]!a}, got one of {signer}")
    if service_info(transaction)["status"] != "WaitingForRecoveryShares":
        raise NotWaitingForShares("service: is not waiting for recovery shares")
    share = _share(request)
    data = transaction.get(tables.RECOVERY_SHARES, tables.ONLY)
    if data is None:
        raise NotWaitingForShares("service: has no recovery shares to open")
    wrapped = RecoveryShares.parse(data, tables.RECOVERY_SHARES)
    if share.x != _expected_point(transaction, wrapped, member_id):
        raise InvalidInput("share: is not the one that this member was given")
    nonce = random(_NONCE)
    sealed = present.aead.encrypt(nonce, share.encode(), None)
    transaction.put(
        tables.SUBMITTED_SHARES,
        member_id.encode(),
        write_json(b64.encode(sealed[-16:] + nonce + sealed[:-16])),
    )
    threshold = int(service_config(transaction)["recovery_threshold"])
    opened = _open(transaction, present)
    if share.x != 0 and sum(1 for each in opened if each.x != 0) < threshold:
        return Submitted(len(opened), threshold, None)
    try:
        secret = shares.unwrap(wrapped, shares.combine(opened), version, "ledger secret")
    except (AuthenticityError, UsageError):
        raise SharesDoNotFit(
            "shares: do not open the ledger secret together",
            hint="submit the shares again, each member its own",
        ) from None
    return Submitted(len(opened), threshold, secret)


def clear(transaction: Transaction) -> None:
    """Forget all submitted shares: the secret is open, or they do not fit together."""
    for key, _ in list(transaction.items(tables.SUBMITTED_SHARES)):
        transaction.remove(tables.SUBMITTED_SHARES, key)


def _share(request: Request) -> Share:
    try:
        text = read_object(request.payload, "share").get("share")
        if not isinstance(text, str) or len(text) > 2 * SHARE_SIZE:
            raise FormatError('share: want {"share": base64}, got something else')
        return Share.parse(b64.decode(text, "share"), "share")
    except FormatError as error:
        raise InvalidInput(error.message) from None


def _expected_point(transaction: Transaction, wrapped: RecoveryShares, member_id: str) -> int | None:
    """Which point of the polynomials a member was given; None if it was given none."""
    participants, owners = recovery_keys(transaction)
    if member_id not in wrapped.shares:
        return None
    if member_id in owners:
        return 0
    recipients = sorted(name for name in wrapped.shares if name not in owners)
    return recipients.index(member_id) + 1 if member_id in participants else None


def _open(transaction: Transaction, present: LedgerSecret) -> list[Share]:
    found = []
    for _, data in transaction.items(tables.SUBMITTED_SHARES):
        raw = b64.decode(str(read_json(data, tables.SUBMITTED_SHARES)), tables.SUBMITTED_SHARES)
        try:
            plain = present.aead.decrypt(raw[16:28], raw[28:] + raw[:16], None)
        except (InvalidTag, ValueError):
            raise InvalidInput("shares: one that was submitted cannot be read") from None
        found.append(Share.parse(plain, tables.SUBMITTED_SHARES))
    return found
