"""Verify a quote under the root of a platform in a machine, whose TEE endorses that root.

Spec: docs/decisions/0034-a-machine-is-a-platform.md; the steps are numbered once, here, and each has a forged
case in the tests.
"""

from __future__ import annotations

import dataclasses
import hmac
from datetime import datetime
from typing import Final

from kluis.errors import AuthenticityError, FormatError
from kluis.evidence import endorsements
from kluis.evidence.anchors import TrustAnchors
from kluis.evidence.context import Context, Memory
from kluis.evidence.endorsements import Endorsed
from kluis.evidence.intel import sgx
from kluis.evidence.levels import ProtectionLevel
from kluis.evidence.model import Claims, Machine, Tcb, TcbStatus
from kluis.evidence.verified import Verified, mint
from kluis.formats import x509
from kluis.formats.kluis import machine
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.kluis.machine import MachineConfiguration
from kluis.formats.sgx.collateral import Collateral
from kluis.formats.x509 import Certificate
from kluis.frozen import frozen
from kluis.hashes import sha256

_KIND: Final = "endorsed root"
# Any owner of a machine can sign collateral under its root: what is cached of it is bounded.
MAX_COLLATERAL: Final = 64 * 1024
_PLACES: Final = 16
_CAPACITY: Final = 16
_LEVELS: Final = (ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER)


def verify(
    data: bytes, *, endorsement: bytes, context: Context, collateral: Collateral, now: datetime
) -> Verified[Claims]:
    """Verify one SGX quote whose root is an anchor, or is endorsed.

    1. If an anchor has the root's key, the endorsement is not used: the claims have no machine.
    2. The endorsement is verified (:func:`endorsements.verify`).
    3. It names this root's key.
    4. The root is an emulated platform's, which states the level of a process TEE. Its collateral has at most
       64 KiB.
    5. The quote is verified under this root, and no other.
    6. If the machine runs only one image, the enclave is of it.

    Level and anchor of the claims are the machine's. Code, signer and launch are the enclave's. Either of
    them in debug mode makes both debug. The TCB is the worse of two, if the machine's vendor publishes a
    judgement.

    Args:
        data: the quote.
        endorsement: canonical JSON.
        context: the trusted roots and the rest of the verifier's state.
        collateral: of the quote, as the platform in the machine publishes it.
        now: aware.

    Raises:
        FormatError: the quote, the collateral or the endorsement is malformed, or of an unsupported kind.
        AuthenticityError: a step fails.
        FreshnessError: a certificate, CRL or document is expired or not yet valid.
        UnavailableError: a certificate is missing.
    """
    place, name = _name(collateral, endorsement)
    remembered: tuple[bytes, _Known] | None = context.memory.get(_KIND, place) if context.lasting else None
    if remembered is not None and remembered[0] == name:
        known = remembered[1]
        proven = endorsements.verify(known.given, context=context, now=now, known=known.configuration)
        return mint(_verify(data, known, proven, collateral, now))
    root = _root(collateral)
    if context.anchors.match(root.spki) is not None:  # 1
        return sgx.verify(data, context=context, collateral=collateral, now=now)
    parts = endorsements.read(endorsement)
    proven = endorsements.verify(parts, context=context, now=now)  # 2
    named, own = proven.configuration.root, machine.name_of(root.spki)
    if not hmac.compare_digest(named, own):  # 3
        raise AuthenticityError(
            f"endorsement: root: want {own.hex()[:16]}.., which certifies this quote, "
            f"got {named.hex()[:16]}..",
            hint="another machine, or another boot of this one: get its collateral and a new quote",
            code="endorsement_root",
        )
    known = _Known(parts, proven.configuration, _under(root, context))  # 4
    claims = _verify(data, known, proven, collateral, now)  # 5, 6
    if context.lasting:
        context.memory.put(_KIND, place, (name, known))
    return mint(claims)


@frozen(eq=False)
class _Known:
    """What the bytes of a root and of its endorsement prove; not whether the endorsement is in force.

    Attributes:
        given: the endorsement, whose evidence is verified at each use.
        configuration: of the machine, which names the root.
        inside: trusts only this root, with its own cache: nothing in it is trusted elsewhere.
    """

    given: Endorsement
    configuration: MachineConfiguration
    inside: Context


def _name(collateral: Collateral, endorsement: bytes) -> tuple[bytes, bytes]:
    """The place in the cache, and the hash of what is cached there."""
    chain = collateral.pck_crl_issuer_chain
    name = sha256(len(chain).to_bytes(8, "big") + chain + endorsement)
    return bytes((name[0] % _PLACES,)), name


def _root(collateral: Collateral) -> Certificate:
    """The last certificate of the issuers; whether it is the root of the quote is for step 5."""
    what = "PCK CRL issuer chain"
    return x509.parse(x509.split_pem(collateral.pck_crl_issuer_chain, what)[-1], what)


def _under(root: Certificate, context: Context) -> Context:
    anchors = TrustAnchors.from_root(root)
    (anchor,) = anchors
    if anchor.level not in _LEVELS:
        raise AuthenticityError(
            f"endorsement: want the root of an emulated platform, of {' or '.join(_LEVELS)}, "
            f"got {anchor.name}, of {anchor.level}",
            code="root_untrusted",
        )
    return Context(anchors, context.engine, Memory(_CAPACITY), lasting=context.lasting)


def _verify(data: bytes, known: _Known, proven: Endorsed, collateral: Collateral, now: datetime) -> Claims:
    _check_size(collateral)  # 4
    claims = sgx.verify(data, context=known.inside, collateral=collateral, now=now).value  # 5
    only = proven.configuration.only
    if only is not None and not hmac.compare_digest(only, claims.measurement.value):  # 6
        raise AuthenticityError(
            f"endorsement: only: want {claims.measurement.value.hex()[:16]}.., this enclave, "
            f"got a machine that runs only {only.hex()[:16]}..",
            code="endorsement_only",
        )
    (anchor,) = known.inside.anchors
    return _both(claims, proven, anchor.level)


def _check_size(collateral: Collateral) -> None:
    parts = dataclasses.replace(collateral, endorsement=None)
    size = sum(len(getattr(parts, field.name) or b"") for field in dataclasses.fields(parts))
    if size > MAX_COLLATERAL:
        raise FormatError(
            f"collateral: is {size} bytes, must be at most {MAX_COLLATERAL} under an endorsed root",
            code="too_large",
        )


def _both(claims: Claims, proven: Endorsed, level: ProtectionLevel) -> Claims:
    configuration, below = proven.configuration, proven.claims
    debug = claims.debug or below.debug or configuration.debug
    return dataclasses.replace(
        claims,
        kind=f"{claims.kind} in a machine with {below.kind}",
        level=ProtectionLevel.NONE if debug else below.level,
        anchor=below.anchor,
        debug=debug,
        tcb=_worse(claims.tcb, below.tcb),
        valid_until=min(claims.valid_until, below.valid_until),
        machine=Machine(
            claims=below,
            kind=proven.kind,
            level=level,
            boot=configuration.boot,
            debug=below.debug or configuration.debug,
            missing=configuration.missing,
            only=configuration.only,
            release=configuration.release,
        ),
    )


def _worse(inside: Tcb, below: Tcb) -> Tcb:
    """The enclave's judgement, or one of both; no judgement does not count as one."""
    if below.status is TcbStatus.NOT_JUDGED:
        return inside
    worst_first = list(TcbStatus)
    dates = [each.date for each in (inside, below) if each.date is not None]
    numbers = [each.evaluation for each in (inside, below) if each.evaluation is not None]
    return Tcb(
        status=min(inside.status, below.status, key=worst_first.index),
        date=min(dates, default=None),
        advisories=tuple(sorted({*inside.advisories, *below.advisories})),
        evaluation=min(numbers, default=None),
    )
