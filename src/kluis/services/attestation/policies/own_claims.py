"""Separate the service's claims from a policy's: what policies read, and what they may not issue.

A policy reads every claim of the service, and issues further claims. Reserved names begin with ``x-ms-``,
``x-kluis-`` or ``tdx_``, or are common to every token: a policy may repeat these claims, but never change
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kluis.errors import PolicyError
from kluis.services.attestation.language import Claim, Issuer
from kluis.services.attestation.language.claims import MOST_INTEGER, Value, shown_value
from kluis.services.attestation.language.evaluation import MOST_SEEN

RESERVED: Final = ("x-ms-", "x-kluis-", "tdx_")
_OF_EVERY_TOKEN: Final = frozenset(
    {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "nonce", "rp_data", "eat_profile", "intuse",
     "dbgstat", "attester_tcb_status", "aas-ehd", "maa-ehd", "maa-attestationcollateral"}
)  # fmt: skip


def incoming(
    claims: Mapping[str, Any], reads: frozenset[str] | None = None, read_only: frozenset[str] = frozenset()
) -> list[Claim]:
    """The service's claims for policies: a value that is not plain becomes JSON text.

    Args:
        claims: by name; None values are left out.
        reads: the names in the policy's conditions; None: any. Others are left out.
        read_only: names of claims that a policy can read but not issue.
    """
    inputs: list[Claim] = []
    for name in claims if reads is None else reads & claims.keys():
        value = claims[name]
        plain = value if isinstance(value, list) and all(map(_plain, value)) else [value]
        for each in plain:
            if each is not None:
                stated: Value = each if _plain(each) else msgspec.json.encode(each).decode()
                inputs.append(Claim(name, stated, Issuer.SERVICE, name in read_only))
    return inputs


def check_issued(
    issued: Mapping[str, object], claims: Mapping[str, Any], token_claims: Mapping[str, Any] = {}
) -> None:
    """Check that a policy does not issue claims in the service's place.

    Args:
        issued: by the policy.
        claims: verified by the service, under every name that a policy reads.
        token_claims: always in the token, whatever the policy issues.

    Raises:
        PolicyError: code ``policy_evaluation``; names the claim.
    """
    for name, value in issued.items():
        if name in token_claims or name in _OF_EVERY_TOKEN or name.lower().startswith(RESERVED):
            _check_repeated(name, value, claims)


def _check_repeated(name: str, value: object, claims: Mapping[str, Any]) -> None:
    own = [each.value for each in incoming({name: claims.get(name)})]
    values = value if isinstance(value, list) else [value]
    if own and all(any(type(each) is type(mine) and each == mine for mine in own) for each in values):
        return
    shown = " or ".join(map(shown_value, own)) or "absent"
    raise PolicyError(
        f"Policy Evaluation Error has occurred: claim {name!a} is the service's own: want {shown}, "
        f"got {' and '.join(map(shown_value, values[:MOST_SEEN]))}",
        hint="issue it under another name",
        code="policy_evaluation",
    )


def _plain(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -MOST_INTEGER - 1 <= value <= MOST_INTEGER
    return isinstance(value, (str, bool))
