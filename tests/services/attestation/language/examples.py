"""Published policies, each with claims and the outcome that is stated for them."""

from __future__ import annotations

import dataclasses
import json
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
    """A policy, claims, and the result; ``token`` None is a refusal."""

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

BASELINE = _rules(
    "=> permit();",
    'c:[type=="x-ms-sgx-mrsigner"] => issue(type="sgx-mrsigner", value=c.value);',
    version="1.1",
    before='configurationrules{ => issueproperty(type="x-ms-sgx-tcbidentifier", value="11"); };',
)
GOLDEN = ("0" * 63 + "a", "1" * 63 + "b", "2" * 63 + "c", "3" * 63 + "d")
PCR = (
    'c:[type=="pcrs", issuer=="AttestationService"] => add(type="pcrNValidated", value=JsonToClaimValue('
    'JmesPath(c.value, "PCRs[? Index == `N`].Digests.SHA256 | @[0] == `\\"WANT\\"`")));'
)
PCRS = _rules(
    "".join(PCR.replace("N", str(n)).replace("WA" + str(n) + "T", want) for n, want in enumerate(GOLDEN))
    + " && ".join(f'[type=="pcr{n}Validated", value==true]' for n in range(4))
    + " => permit();",
    version="1.2",
)


def pcrs_of(*values: str) -> str:
    """PCRs as the service tells them."""
    return json.dumps(
        {"PCRs": [{"Index": n, "Digests": {"SHA256": value}} for n, value in enumerate(values)]}
    )


SECURE_BOOT_LOG = _rules(
    "=> permit();",
    r"""c:[type=="events", issuer=="AttestationService"] => add(type="variables", value=JmesPath(c.value,
        "Events[?EventTypeString == 'EV_EFI_VARIABLE_DRIVER_CONFIG' &&
        ProcessedData.VariableGuid == '8BE4DF61-93CA-11D2-AA0D-00E098032B8C']"));
    c:[type=="variables", issuer=="AttestationPolicy"] => add(type="found", value=JmesPath(c.value,
        "[?ProcessedData.UnicodeName == 'SecureBoot'] |
        length(@) == `1` && @[0].ProcessedData.VariableData == 'AQ'"));
    f:[type=="found", value=="true"] => issue(type="SecureBootEnabled", value=true);
    ![type=="SecureBootEnabled", issuer=="AttestationPolicy"] =>
        issue(type="SecureBootEnabled", value=false);""",
    version="1.2",
).replace("\n        ", " ")  # a string ends on its line
VBS = _rules(
    '[type=="vsmReportPresent", value==true] && [type=="enclaveAuthorId", value=="' + "A" * 43 + '"] && '
    '[type=="enclaveImageId", value=="AQEAAAAAAAAAAAAAAAAAAA"] && '
    '[type=="enclaveSvn", value>=0] => permit();',
    version="1.2",
)
ENCLAVE: dict[str, Any] = {
    "vsmReportPresent": True, "enclaveAuthorId": "A" * 43, "enclaveImageId": "AQEAAAAAAAAAAAAAAAAAAA",
    "enclaveSvn": 0,
}  # fmt: skip
# As it is published: boolProperties is read, and no rule ever adds it.
QUIRK = _rules(
    "=> permit();",
    r"""c:[type=="events", issuer=="AttestationService"] => add(type="bootEvents", value=c.value);
    c:[type=="boolProperties", issuer=="AttestationPolicy"] => issue(type="codeIntegrityEnabled",
        value=JsonToClaimValue(JmesPath(c.value, "[*].CodeIntegrity | @[0]")));
    c:[type=="boolProperties", issuer=="AttestationPolicy"] => issue(type="elamDriverLoaded", value=true);
    ![type=="elamDriverLoaded"] => issue(type="elamDriverLoaded", value=false);
    [type=="codeIntegrityEnabled", value==true] && [type=="elamDriverLoaded", value==true] =>
        issue(type="PlatformAttested", value=true);""",
    version="1.2",
)


def variable(name: str, value: str) -> str:
    """An event of one variable, as the service tells it."""
    guid = "8BE4DF61-93CA-11D2-AA0D-00E098032B8C"
    told = {"VariableGuid": guid, "UnicodeName": name, "VariableData": value}
    kind = "EV_EFI_VARIABLE_DRIVER_CONFIG"
    return json.dumps({"Events": [{"EventSeq": 1, "EventTypeString": kind, "ProcessedData": told}]})


EXAMPLES = [
    Example("a baseline of one's own", BASELINE, SGX, {"sgx-mrsigner": "mrsigner1"}),
    Example("golden PCRs", PCRS, {"pcrs": pcrs_of(*GOLDEN)}, {}),
    Example("golden PCRs, one digit", PCRS, {"pcrs": pcrs_of(*GOLDEN[:3], "3" * 63 + "e")}, None),
    Example(
        "secure boot by log",
        SECURE_BOOT_LOG,
        {"events": variable("SecureBoot", "AQ")},
        {"SecureBootEnabled": True},
    ),
    Example(
        "secure boot off by log",
        SECURE_BOOT_LOG,
        {"events": variable("SecureBoot", "AA")},
        {"SecureBootEnabled": False},
    ),
    Example(
        "no secure boot in the log",
        SECURE_BOOT_LOG,
        {"events": variable("PK", "AQ")},
        {"SecureBootEnabled": False},
    ),
    Example("VBS", VBS, ENCLAVE, {}),
    Example("VBS, another enclave", VBS, ENCLAVE | {"enclaveAuthorId": "B" * 43}, None),
    Example("a property that nothing adds", QUIRK, {"events": EVENTS}, {"elamDriverLoaded": False}),
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
