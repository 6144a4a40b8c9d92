"""Check that evidence is of the enclave that the agreement names, as of a time, by numbered steps."""

from __future__ import annotations

import dataclasses
import datetime

from kluis import appraisal, evidence
from kluis.appraisal import AttestationResult, ByImage, Policy
from kluis.cleanroom.agreement.agreement import Code
from kluis.cleanroom.agreement.exchange import Evidence
from kluis.errors import AuthenticityError, PolicyError
from kluis.evidence import Claims, Collateral, ProtectionLevel, TrustAnchors
from kluis.formats.kluis.runtime_data import Purpose, okp_public
from kluis.frozen import frozen


@frozen
class Verdict:
    """The result of a successful check.

    Attributes:
        result: every rule of the agreement's policy, met.
        level: the protection level, from the anchor that matched.
        rules: the names of the rules, including the agreement's own.
        measured: the measurement that the verified evidence reports, 64 hex digits.
        signing_key: the attested Ed25519 key, 32 bytes, if there is one.
    """

    result: AttestationResult
    level: str
    rules: tuple[str, ...]
    measured: str
    signing_key: bytes | None


def check_evidence(
    proof: Evidence,
    code: Code,
    *,
    purpose: Purpose,
    nonce: bytes,
    payload: bytes,
    collateral: bytes,
    now: datetime.datetime,
) -> Verdict:
    """Check one piece of evidence against an agreement.

    1. The quote is authentic under a root that the agreement pins, at ``now``.
    2. It meets the agreement's policy: level, machine, no debug, no known break, TCB, age, measurement,
       runtime data with this purpose, image and nonce, and a launch configuration in which only agreed
       protections are missing.
    3. The measured code is the agreed image, and signer, product and version are the agreed ones.
    4. Its payload is the expected one: a genuine enclave cannot be made to attest another's key.

    Args:
        proof: the evidence.
        code: the agreement's part about code and platform.
        purpose: the only purpose accepted.
        nonce: the only nonce accepted.
        payload: the only payload accepted.
        collateral: JSON, as ``kluis platform collateral`` prints it; it is signed.
        now: aware.

    Raises:
        AuthenticityError: step 1 or 4.
        FreshnessError: step 1 or 2: expired or not yet valid, or another nonce.
        PolicyError: step 2 or 3; names every rule that is not met.
    """
    anchors = tuple(anchor for root in code.roots for anchor in TrustAnchors.from_pem(root.encode()))
    verified = evidence.verify(
        proof.quote, anchors=TrustAnchors(anchors), collateral=Collateral.from_json(collateral), now=now
    )  # 1
    result = appraisal.appraise(
        verified,
        policy_of(code, purpose),
        nonce=nonce,
        runtime_data=proof.runtime_data,
        launch_configuration=proof.launch_configuration,
        now=now,
    )
    result.require()  # 2
    _check_identity(verified.value, code)  # 3
    document = result.runtime_data
    if document is None or document.payload != payload:  # 4
        raise AuthenticityError(
            "evidence: its payload is not of this agreement, run and party", code="payload"
        )
    keys = [key for key in document.keys if key.get("crv") == "Ed25519"]
    return Verdict(
        result=result,
        level=verified.value.level.value,
        rules=(*(rule.name for rule in result.rules), "image", "signer", "product_id", "svn", "payload"),
        measured=verified.value.measurement.value.hex(),
        signing_key=okp_public(keys[0], "Ed25519") if len(keys) == 1 else None,
    )


def policy_of(code: Code, purpose: Purpose) -> Policy:
    """The appraisal policy of an agreement.

    Raises:
        PolicyError: the agreement names an unknown protection level.
        FormatError, UsageError: its table of the machine is invalid.
    """
    known = {level.value for level in ProtectionLevel} - {ProtectionLevel.NONE.value}
    unknown = sorted(set(code.protection) - known)
    if unknown:
        raise PolicyError(
            f"agreement: want protection levels of {sorted(known)}, got {unknown}", code="agreement"
        )
    strict = appraisal.strict(
        ByImage(image_ids=frozenset(bytes.fromhex(each.mrenclave) for each in code.measurements)),
        protection=frozenset(ProtectionLevel(each) for each in code.protection),
        purpose=purpose,
        counters=frozenset(code.counter),
        missing=frozenset(code.lacks),
    )
    return dataclasses.replace(
        strict,
        denylists=True,
        max_collateral_age=datetime.timedelta(seconds=code.fresh_seconds),
        machine=appraisal.loads_machine(code.machine.encode()) if code.machine else None,
    )


def _check_identity(claims: Claims, code: Code) -> None:
    measured = claims.measurement.value.hex()
    signers = {each.mrsigner for each in code.measurements if each.mrenclave == measured}
    signer = claims.signer.value.hex() if claims.signer else ""
    for name, ok, want, got in (
        ("image", measured == code.image_id, f"{code.image_id[:16]}..", f"{measured[:16]}.."),
        (
            "signer",
            signer in signers,
            " or ".join(f"{each[:16]}.." for each in sorted(signers)),
            f"{signer[:16]}..",
        ),
        ("product_id", claims.product_id == code.product_id, code.product_id, claims.product_id),
        (
            "svn",
            claims.svn is not None and claims.svn >= code.svn_min,
            f"at least {code.svn_min}",
            claims.svn,
        ),
    ):
        if not ok:
            raise PolicyError(f"contraindicated: {name}: want {want}, got {got}", code=name)
