"""Published policies, each with claims and the outcome that is stated for them."""

from __future__ import annotations

import dataclasses
from typing import Any

SGX: dict[str, Any] = {
    "x-ms-sgx-is-debuggable": False,
    "x-ms-sgx-product-id": 1,
    "x-ms-sgx-svn": 2,
    "x-ms-sgx-mrsigner": "mrsigner1",
    "x-ms-sgx-mrenclave": "mrenclave1",
    "x-ms-attestation-type": "sgx",
}
TPM: dict[str, Any] = dict.fromkeys(
    ("aikValidated", "secureBootEnabled", "bootDebuggingDisabled", "vbsEnabled", "notWinPE", "notSafeMode"),
    True,
)
EVENTS = (
    '{"Events":[{"EventSeq":4,"EventTypeString":"EVENT_DRTM_SMM","ProcessedData":{"Value":2}},'
    '{"EventSeq":5,"EventTypeString":"EVENT_DRTM_STATE_AUTH","ProcessedData":{"Valid":true}}]}'
)


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A policy, claims, and what comes of them; ``token`` None is a refusal."""

    name: str
    policy: str
    claims: dict[str, Any]
    token: dict[str, Any] | None
    custom: dict[str, Any] = dataclasses.field(default_factory=dict)


def _rules(authorization: str, issuance: str = "", version: str = "1.0", before: str = "") -> str:
    return (
        f"version={version};{before} authorizationrules{{ {authorization} }}; issuancerules{{ {issuance} }};"
    )


CUSTOM = _rules(
    '[ type=="x-ms-sgx-is-debuggable", value==false ] && [ type=="x-ms-sgx-product-id", value==1 ] && '
    '[ type=="x-ms-sgx-svn", value>= 0 ] && [ type=="x-ms-sgx-mrsigner", value=="mrsigner1"] => permit();',
    'c:[type=="x-ms-sgx-mrsigner"] => issue(type="custom", value=c.value);',
)
MULTI = _rules(
    " ".join(
        '[type=="x-ms-sgx-is-debuggable", value==true ]&& '
        f'[type=="x-ms-sgx-mrsigner", value=="mrsigner{number}"] => permit();'
        for number in (1, 2)
    )
)
SECURE_BOOT = '[type=="secureBootEnabled", value==true, issuer=="AttestationService"]=>permit();'
PLATFORM = (
    " && ".join(f'[type=="{name}", value==true]' for name in TPM)
    + ' => issue(type="PlatformAttested", value=true);'
)
IDENTIFIER = _rules(
    "=> permit();",
    'F1:[type=="OSName", issuer=="CustomClaim"] && C2:[type=="OSName", issuer=="AttestationService", '
    "value==F1.value] => issue(claim=C2);",
)
SYSTEM_GUARD = _rules(
    "=> permit();",
    'c:[type=="valid"] => issue(type="drtmMleValid", value=c.value); '
    '[type=="valid", value==true] && c:[type=="smm"] => issue(type="smmLevel", value=c.value);',
    version="1.2",
    before="",
).replace(
    "=> permit();",
    r"""=> permit();
    c:[type=="events", issuer=="AttestationService"] => add(type="auths", value=JmesPath(c.value,
        "Events[? EventTypeString == 'EVENT_DRTM_STATE_AUTH' && ProcessedData.Valid == `true`]"));
    c:[type=="auths"] => add(type="valid", value=JsonToClaimValue(JmesPath(c.value, "length(@) == `1`")));
    c:[type=="events"] => add(type="smm", value=JsonToClaimValue(JmesPath(c.value,
        "Events[? EventTypeString == 'EVENT_DRTM_SMM'] | [0].ProcessedData.Value")));""",
)
FUNCTIONS = _rules(
    "=> permit();",
    r"""=> issue(type="third", value=JmesPath("{\"values\":[0,1,2,3,4]}", "values[2]"));
    => issue(type="many", value=JsonToClaimValue("[0,\"abc\",true]"));
    => issue(type="none", value=JsonToClaimValue("null"));
    => issue(type="bare", value=JsonToClaimValue("abc"));
    => add(type="part", value="abc"); => add(type="part", value=100);
    => add(type="whole", value=true); => add(type="whole", value="abc"); => add(type="whole", value=100);
    p:[type=="part"] && w:[type=="whole"] => issue(type="subset", value=IsSubsetOf(p.value, w.value));
    p:[type=="part"] && w:[type=="whole"] => issue(type="superset", value=IsSubsetOf(w.value, p.value));
    p:[type=="part"] => issue(type="only", value=ContainsOnlyValue(p.value, 100));
    => issue(type="both", value=AppendString("abc", "xyz"));
    => issue(type="not", value=NegateBool(true));
    ![type=="Claim3"] => add(type="Claim3", value=300);
    c:[type=="Claim3"] => issue(claim=c);
    => issue(type="alike", value=JmesPath("{\"a\":\"Win\",\"b\":\"WIN\"}", "equals_ignore_case(a, b)"));""",
    version="1.2",
)

EXAMPLES = [
    Example("custom SGX", CUSTOM, SGX, {"custom": "mrsigner1"}),
    Example("custom SGX, another signer", CUSTOM, SGX | {"x-ms-sgx-mrsigner": "mrsigner2"}, None),
    Example("several enclaves, not debuggable", MULTI, SGX, None),
    Example("several enclaves", MULTI, SGX | {"x-ms-sgx-is-debuggable": True}, {}),
    Example("always denied", "version=1.0; authorizationrules { =>deny(); }; issuancerules { };", SGX, None),
    Example("secure boot", _rules(SECURE_BOOT), TPM, {}),
    Example("secure boot off", _rules(SECURE_BOOT), TPM | {"secureBootEnabled": False}, None),
    Example("secure boot, as the client says", _rules(SECURE_BOOT), {}, None, {"secureBootEnabled": True}),
    Example(
        "level",
        _rules(SECURE_BOOT, '=> issue(type="SecurityLevelValue", value=100);'),
        TPM,
        {"SecurityLevelValue": 100},
    ),
    Example("platform", _rules("=> permit();", PLATFORM), TPM, {"PlatformAttested": True}),
    Example("platform, one false", _rules("=> permit();", PLATFORM), TPM | {"vbsEnabled": False}, {}),
    Example("DRTM", SYSTEM_GUARD, {"events": EVENTS}, {"drtmMleValid": True, "smmLevel": 2}),
    Example("no DRTM", SYSTEM_GUARD, {"events": '{"Events":[]}'}, {"drtmMleValid": False}),
    Example(
        "everything issued",
        _rules("=> permit();", 'c:[type=="events"] => issue(type="outputEvents", value=c.value);', "1.2"),
        {"events": EVENTS},
        {"outputEvents": EVENTS},
    ),
    Example(
        "functions",
        FUNCTIONS,
        {},
        {
            "third": "2",
            "many": [0, "abc", True],
            "bare": "abc",
            "subset": True,
            "superset": False,
            "only": False,
            "both": "abcxyz",
            "not": False,
            "Claim3": 300,
            "alike": "true",
        },
    ),
    Example("identifiers", IDENTIFIER, {"OSName": ["Win", "Lin"]}, {"OSName": "Win"}, {"OSName": "Win"}),
    Example(
        "a value of any claim",
        'version= 1.0; authorizationrules {c:[type=="$is-debuggable"] && [value==true] => deny();'
        "=> permit();};",
        {"$is-debuggable": False, "other": True},
        None,
    ),
    Example("deny outweighs permit", _rules("=> permit(); => deny();"), {}, None),
    Example("nothing issued", "version=1.0; authorizationrules{=> permit();}; issuancerules{};", SGX, {}),
    Example("no permit", "version=1.0; authorizationrules{}; issuancerules{};", SGX, None),
    Example("no authorization", "version=1.0; issuancerules{};", SGX, None),
    Example("key", _rules('[type=="obj_attr", value==50] => permit();', version="1.2"), {"obj_attr": 50}, {}),
    Example("another key", _rules('[type=="obj_attr", value==50] => permit();'), {"obj_attr": 51}, None),
    Example(
        "mask",
        _rules(
            "=> permit();",
            PLATFORM,
            "1.1",
            ' configurationrules{ => issueproperty(type="required_pcr_mask", value=15); '
            '=> issueproperty(type="require_valid_aik_cert", value=false); };',
        ),
        TPM | {"aikValidated": False},
        {},
    ),
]
