"""What a policy may take of a service: all that it has the service compare is counted."""

from __future__ import annotations

import pytest

from kluis.errors import PolicyError
from kluis.services.attestation.language import evaluate, parse
from kluis.services.attestation.language.claims import of_mapping
from tests.pace import within

LENGTHENED = "".join(
    f'c:[type=="{"base" if index == 0 else f"a{index}"}"] => add(type="a{index + 1}", '
    "value=AppendString(c.value, c.value));"
    for index in range(7)
)
ENDS = "".join(
    f'c:[type=="a7"] => add(type="{"xy"[n % 2]}", value=AppendString(c.value, "{n:02}"));' for n in range(60)
)
COSTLY = {  # each was seconds for 64 KiB that anybody may send
    "texts alike up to their ends": LENGTHENED
    + ENDS
    + 'a:[type=="x"] && [type=="y", value==a.value] => permit();' * 900,
    "sets of texts": LENGTHENED
    + ENDS
    + 'a:[type=="x"] => add(type="z", value=IsSubsetOf(a.value, a.value));' * 700,
    "issuers of many claims": 'c:[type=="many"] => add(type="c", value=JsonToClaimValue(c.value));'
    + 'c:[type=="c"] && [type=="many", '
    + ", ".join(["value!=c.issuer"] * 3500)
    + "] => permit();",
    "one value many times": 'c:[type=="ones"] => add(type="x", value=JsonToClaimValue(c.value));' * 900,
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_is_counted(name: str) -> None:
    """How long texts are and how many claims a name is bound to count as well as how many values meet."""
    claims = {
        "base": "\U0001f600" * 1000,
        "many": "[" + ",".join(map(str, range(16_000))) + "]",
        "ones": "[" + ",".join(["1"] * 16_000) + "]",
    }
    counted = r"too much work: want at most (2000000 comparisons|1000000 steps)"
    with within(3), pytest.raises(PolicyError, match=counted):
        evaluate(parse(f"version=1.2; authorizationrules{{ {COSTLY[name]} }};"), of_mapping(claims))
