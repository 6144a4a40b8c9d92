"""The default policies, in force until an owner sets one.

Spec: Microsoft Azure Attestation, "Default policies". The texts for SNP, TDX and Azure guests are not
published: these are ours, with the outcome that published tokens show.
"""

from __future__ import annotations

from typing import Final

SGX: Final = """version= 1.1;
configurationrules{ => issueproperty(type="x-ms-sgx-tcbidentifier", value="azuredefault"); };
authorizationrules{ => permit(); };
issuancerules{
 c:[type=="x-ms-sgx-is-debuggable"] => issue(type="is-debuggable", value=c.value);
 c:[type=="x-ms-sgx-mrsigner"] => issue(type="sgx-mrsigner", value=c.value);
 c:[type=="x-ms-sgx-mrenclave"] => issue(type="sgx-mrenclave", value=c.value);
 c:[type=="x-ms-sgx-product-id"] => issue(type="product-id", value=c.value);
 c:[type=="x-ms-sgx-svn"] => issue(type="svn", value=c.value);
 c:[type=="x-ms-attestation-type"] => issue(type="tee", value=c.value);
};"""
PERMIT: Final = "version= 1.0; authorizationrules{ => permit(); }; issuancerules{};"
AZURE_GUEST: Final = """version= 1.0;
authorizationrules{
 [type=="x-ms-azurevm-default-securebootkeysvalidated", value==false] => deny();
 [type=="x-ms-azurevm-debuggersdisabled", value==false] => deny();
 [type=="secureboot", value==false] => deny();
 [type=="x-ms-azurevm-signingdisabled", value==false] => deny();
 [type=="x-ms-azurevm-dbvalidated", value==false] => deny();
 [type=="x-ms-azurevm-dbxvalidated", value==false] => deny();
 => permit();
};
issuancerules{
};"""
_DEFAULTS: Final = {
    "sgxenclave": SGX,
    "openenclave": SGX,
    "sevsnpvm": PERMIT,
    "tdxvm": PERMIT,
    "azureguest": AZURE_GUEST,
}


def default_policy(attestation_type: str) -> str | None:
    """The default text for a type, in any case; None for ``Tpm``, which has no default."""
    return _DEFAULTS.get(attestation_type.lower())
