"""Records without evidence, only with a vendor's certificates: their chain is verified as a verifier
would.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

from kluis.errors import AuthenticityError, UsageError
from kluis.evidence import TrustAnchors
from kluis.evidence.amd import chain as amd
from kluis.evidence.context import Context
from kluis.formats.snp.endorsements import Endorsements
from kluis.formats.x509 import Certificate
from kluis.hashes import sha256
from tests.corpus.case import Case
from tests.corpus.record import Record
from tests.corpus.same import same


def verify(record: Record, case: Case, anchors: TrustAnchors, now: datetime) -> None:
    """Verify a chain of AMD's, with every CA in the record, and compare each CA's recorded facts.

    Raises:
        KluisError: as the vendor's verifier; and ``AuthenticityError`` for a CA that is not as recorded.
        UsageError: the vendor's chains are never recorded without evidence.
    """
    given = case.endorsements
    if not isinstance(given, Endorsements):
        raise UsageError(f"{record.tee}: a record without evidence is not known")
    seen: dict[str, Certificate] = {}
    for role in ("ask", "asvk"):
        if role in record.files:
            each = dataclasses.replace(given, ask=record.files[role])
            authority = amd.verify_authority(each, context=Context(anchors), now=now)
            seen |= {role: authority.ca, "ark": authority.root}
    facts: dict[str, object] = {f"{role}_serial": one.serial for role, one in seen.items()}
    if "ark" in seen:
        facts["ark_sha256"] = sha256(seen["ark"].der)
    for name, want in record.known.items():
        if name in facts and not same(facts[name], want):
            raise AuthenticityError(f"{name}: want {want}, got {facts[name]}", code="cert_profile")
