"""What CCF's governance API answers of members, users, nodes and policies, from the tables that have them.

Spec: CCF, "Governance API", ``2024-07-01``; ``src/node/gov/handlers/service_state.h``.
"""

from __future__ import annotations

import textwrap
from typing import Any, Final

from kluis.formats.ccf import tables
from kluis.formats.ccf.values import read_json
from kluis.formats.encoding import b64
from kluis.ledger.governance.documents import read_object
from kluis.ledger.store import Transaction

VIRTUAL: Final = "Insecure_Virtual"
"""Format of a quote that no hardware signs, JSON: CCF's, which every node of Kluis has."""


def describe_member(state: Transaction, key: bytes) -> dict[str, Any]:
    """A member, by its id."""
    info = read_object(state.get(tables.MEMBERS, key) or b"{}", "member")
    certificate, encryption = state.get(tables.MEMBER_CERTIFICATES, key), state.get(tables.MEMBER_KEYS, key)
    role = "NonParticipant" if encryption is None else "Participant"
    found = {
        "memberId": key.decode(),
        "status": info.get("status"),
        "memberData": info.get("member_data"),
        "recoveryRole": info.get("recovery_role") or role,
    }
    if certificate is not None:
        found["certificate"] = certificate.decode()
    if encryption is not None:
        found["publicEncryptionKey"] = encryption.decode()
    return found


def describe_user(state: Transaction, key: bytes) -> dict[str, Any]:
    """A user that has a certificate in the tables, by its id."""
    info = state.get(tables.USER_INFO, key)
    return {
        "userId": key.decode(),
        "certificate": (state.get(tables.USER_CERTIFICATES, key) or b"").decode(),
        "userData": None if info is None else read_object(info, "user").get("user_data"),
    }


def describe_node(state: Transaction, key: bytes) -> dict[str, Any]:
    """A node, by its id. In addition to CCF's members, ``quoteInfo`` has the endorsements of its quote."""
    info = read_object(state.get(tables.NODES, key) or b"{}", "node")
    certificate = state.get(tables.NODE_CERTIFICATES, key)
    found = {
        "nodeId": key.decode(),
        "status": info.get("status"),
        "nodeData": info.get("node_data"),
        "retiredCommitted": info.get("retired_committed") is True,
        "quoteInfo": _describe_quote(info.get("quote_info") or {}),
        "rpcInterfaces": {
            name: {"publishedAddress": one.get("published_address"), "protocol": one.get("app_protocol")}
            for name, one in (info.get("rpc_interfaces") or {}).items()
        },
    }
    if certificate is not None:
        found["certificate"] = certificate.decode()
    return found


def _describe_quote(quote: dict[str, Any]) -> dict[str, Any]:
    raw = quote.get("quote") or ""
    found: dict[str, Any] = {
        "format": quote.get("format"),
        "rawQuote": raw,
        "endorsements": quote.get("endorsements") or "",
    }
    if found["format"] == VIRTUAL and raw:
        details = read_object(b64.decode(raw, "quote"), "quote")
        found["details"] = {
            "measurement": details.get("measurement"),
            "reportData": details.get("report_data"),
            "hostData": details.get("host_data"),
        }
    return found


def describe_join_policy(state: Transaction) -> dict[str, Any]:
    """Which code may join as a node, on each kind of machine."""
    return {
        "sgx": {"measurements": _names(state, tables.CODE_IDS)},
        "snp": {
            "measurements": _names(state, tables.SNP_MEASUREMENTS),
            "hostData": _values(state, tables.SNP_HOST_DATA),
            "uvmEndorsements": _values(state, tables.SNP_ENDORSEMENTS),
            "tcbVersions": _values(state, tables.SNP_TCB_VERSIONS),
        },
        "virtual": {
            "measurements": _names(state, tables.MEASUREMENTS),
            "hostData": _names(state, tables.HOST_DATA),
        },
    }


def describe_issuers(state: Transaction) -> dict[str, Any]:
    """Issuers of tokens, their keys in PEM, and the authorities that their addresses may have."""
    issuers = {}
    for name, metadata in _values(state, tables.JWT_ISSUERS).items():
        issuers[name] = {"autoRefresh": metadata.get("auto_refresh") is True}
        if metadata.get("ca_cert_bundle_name"):
            issuers[name]["caCertBundleName"] = metadata["ca_cert_bundle_name"]
    keys = {
        name: list(map(_describe_key, listed)) for name, listed in _values(state, tables.JWT_KEYS).items()
    }
    return {"issuers": issuers, "keys": keys, "caCertBundles": _values(state, tables.CA_BUNDLES)}


def _describe_key(key: dict[str, Any]) -> dict[str, Any]:
    lines = "\n".join(textwrap.wrap(str(key.get("public_key")), 64))
    return {
        "publicKey": f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n",
        "issuer": key.get("issuer"),
        "constraint": key.get("constraint"),
    }


def describe_endpoints(state: Transaction) -> dict[str, Any]:
    """The endpoints in JavaScript that members decided on, by path and method. No node serves them."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in _values(state, tables.ENDPOINTS).items():
        method, _, path = name.partition(" ")
        found.setdefault(path, {})[method] = {
            "jsModule": one.get("js_module"),
            "jsFunction": one.get("js_function"),
            "forwardingRequired": one.get("forwarding_required"),
            "redirectionStrategy": one.get("redirection_strategy") or "none",
            "authnPolicies": one.get("authn_policies"),
            "mode": one.get("mode"),
            "openApi": one.get("openapi") or {},
        }
    return found


def describe_modules(state: Transaction) -> list[dict[str, str]]:
    """The names of the modules in JavaScript that members decided on. No node runs them."""
    return [{"moduleName": name} for name in _names(state, tables.MODULES)]


def _names(state: Transaction, table: str) -> list[str]:
    return [key.decode() for key, _ in state.items(table)]


def _values(state: Transaction, table: str) -> dict[str, Any]:
    return {key.decode(): read_json(value, table) for key, value in state.items(table)}
