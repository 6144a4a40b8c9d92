"""Is this the enclave that the agreement names? Evidence judged as of a time, by numbered steps.

Authenticity raises at once, as ``evidence`` does; of the agreement's rules every one that fails is named.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from kluis import evidence
from kluis.cleanroom.agreement import Code
from kluis.cleanroom.exchange import Evidence
from kluis.errors import AuthenticityError, PolicyError
from kluis.evidence import Claims, Collateral, TcbStatus, TrustAnchors
from kluis.formats.launch import LaunchConfiguration, config_id
from kluis.formats.runtime_data import RuntimeData, okp_public, report_data


@dataclass(frozen=True)
class Verdict:
    """What held.

    Attributes:
        level: the protection level, from the anchor that matched.
        rules: the names of the rules that were checked; all held.
        signing_key: the Ed25519 key that the evidence attests, 32 bytes, if it holds one.
    """

    level: str
    rules: tuple[str, ...]
    signing_key: bytes | None


@dataclass(frozen=True)
class Rule:
    """One rule of the agreement, with what it wants and what the evidence says."""

    name: str
    want: str
    got: str
    ok: bool


def check_evidence(
    given: Evidence,
    code: Code,
    *,
    purpose: str,
    nonce: bytes,
    payload: bytes,
    collateral: bytes,
    now: datetime.datetime,
) -> Verdict:
    """Check one piece of evidence against an agreement.

    1. The quote is authentic under a root that the agreement pins, at ``now``.
    2. The runtime data is what the quote's report data is the hash of, and the launch configuration
       what its CONFIGID is the hash of.
    3. The runtime data is of this purpose, image, nonce and payload: a genuine enclave cannot be made
       to vouch for another's key.
    4. Every rule of the agreement holds: code, signer, version, debug, level, TCB, age, launch.

    Args:
        given: the evidence.
        code: the agreement's part about code and platform.
        purpose: the one purpose accepted.
        nonce: the one nonce accepted.
        payload: the one payload accepted.
        collateral: JSON, as ``kluis platform collateral`` prints it; it is signed.
        now: aware.

    Raises:
        AuthenticityError: step 1, 2 or 3.
        FreshnessError: step 1: certificates or collateral are out of their time.
        PolicyError: step 4; names every rule that does not hold.
    """
    verified = _verify(given.quote, code.roots, collateral, now)  # 1
    claims = verified.value
    if claims.report_data != report_data(given.runtime_data):  # 2
        raise AuthenticityError("evidence: is not over this runtime data", code="runtime_data")
    if claims.config_id != config_id(given.launch_configuration):
        raise AuthenticityError("evidence: is not over this launch configuration", code="launch")
    document = RuntimeData.parse(given.runtime_data)
    for what, want, got in (  # 3
        ("purpose", purpose, document.purpose.value),
        ("image id", code.image_id, document.image_id.hex()),
        ("nonce", nonce.hex(), document.nonce.hex()),
    ):
        if want != got:
            raise AuthenticityError(
                f"evidence {what}: want {_short(want)}, got {_short(got)}", code="runtime_data"
            )
    if document.payload != payload:
        raise AuthenticityError(
            "evidence: its payload is not of this agreement, run and party", code="runtime_data"
        )
    rules = judge(claims, LaunchConfiguration.parse(given.launch_configuration), code, now)  # 4
    failed = [f"{rule.name}: want {rule.want}, got {rule.got}" for rule in rules if not rule.ok]
    if failed:
        raise PolicyError("enclave: " + "; ".join(failed), code="enclave")
    keys = [key for key in document.keys if key.get("crv") == "Ed25519"]
    return Verdict(
        level=claims.level.value,
        rules=("authentic", "runtime_data", "launch_configuration", *(rule.name for rule in rules)),
        signing_key=okp_public(keys[0], "Ed25519") if len(keys) == 1 else None,
    )


def judge(
    claims: Claims, launch: LaunchConfiguration, code: Code, now: datetime.datetime
) -> tuple[Rule, ...]:
    """Hold proven claims against an agreement; the order is fixed, and every rule is there."""
    measured = {(each.mrenclave, each.mrsigner) for each in code.measurements}
    got = (claims.measurement.value.hex(), claims.signer.value.hex())
    age = int((now - claims.collateral_issued).total_seconds())
    extra = sorted(set(launch.missing) - set(code.lacks))
    return (
        Rule("debug", "off", "on" if claims.debug else "off", not claims.debug),
        Rule(
            "protection", "/".join(code.protection), claims.level.value, claims.level.value in code.protection
        ),
        Rule("measurement", _short(code.image_id), _short(got[0]), got[0] in {each for each, _ in measured}),
        Rule("signer", _short(code.measurements[0].mrsigner), _short(got[1]), got in measured),
        Rule(
            "product_id", str(code.product_id), str(claims.product_id), claims.product_id == code.product_id
        ),
        Rule("svn", f"{code.svn_min} or more", str(claims.svn), claims.svn >= code.svn_min),
        Rule("tcb", "UpToDate", claims.tcb.status.value, claims.tcb.status is TcbStatus.UP_TO_DATE),
        Rule("fresh", f"collateral of {code.fresh_seconds} s", f"{age} s", age <= code.fresh_seconds),
        Rule("lacks", "/".join(code.lacks) or "nothing", "/".join(extra) or "nothing more", not extra),
        Rule("counter", "/".join(code.counter), launch.counter, launch.counter in code.counter),
    )


def _verify(
    quote: bytes, roots: tuple[str, ...], collateral: bytes, now: datetime.datetime
) -> evidence.Verified[Claims]:
    anchors = tuple(anchor for root in roots for anchor in TrustAnchors.from_pem(root.encode()))
    return evidence.verify(
        quote, anchors=TrustAnchors(anchors), collateral=Collateral.from_json(collateral), now=now
    )


def _short(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:16]}.."
