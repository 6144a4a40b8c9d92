"""Our constitution does what CCF's does, and others load unchanged."""

# ruff: noqa: E501 # actions and scripts are read more easily on one line

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from kluis.formats.ccf import tables
from kluis.formats.encoding import b64
from kluis.hashes import sha256
from kluis.ledger.governance import constitution
from kluis.ledger.governance.constitution import IN_A_NODE, OF_BALLOT, OF_CONSTITUTION, Constitution, Rules
from kluis.ledger.governance.documents import write_json
from kluis.ledger.governance.faults import ConstitutionFailed
from kluis.ledger.governance.replay import AUDIT
from kluis.ledger.js import HostFault, Limits, ScriptThrew
from kluis.ledger.store import Store
from kluis.services.ledger.ccf.governance import Governance
from tests.ledger.governance import real
from tests.ledger.governance.consortium import Consortium, Party, opened
from tests.odd_certificates import of_odd_version

USER, NEW = Party(52, encrypts=False), Party(53)
NODE = "cd" * 32
JWK_EC = {
    "kty": "EC", "crv": "P-256", "kid": "ec",
    "x": b64.encode_url(Party(1, bits=256).key.public_key().public_numbers().x.to_bytes(32, "big")),
    "y": b64.encode_url(Party(1, bits=256).key.public_key().public_numbers().y.to_bytes(32, "big")),
}  # fmt: skip
JWK_X5C = {
    "kty": "EC",
    "kid": "x5c",
    "x5c": ["".join(USER.certificate.splitlines()[1:-1])],
    "issuer": "https://a.b.example/x",
}
ISSUER = "https://b.example"
APP = {
    "metadata": {
        "endpoints": {
            "/a": {"get": {
                "js_module": "a.js", "js_function": "f", "mode": "readonly", "forwarding_required": "never",
                "authn_policies": ["no_auth", {"all_of": ["jwt"]}], "openapi": {"z": 1, "a": 2},
            }},
        },
    },
    "modules": [{"name": "a.js", "module": "export const f = () => 'ä';"}],
}  # fmt: skip
POLICY = "package policy"


def digest(text: str) -> str:
    return sha256(text.encode()).hex()


ACTIONS: list[tuple[str, Any]] = [
    ("set_member", {"cert": NEW.certificate, "encryption_pub_key": NEW.encryption_pem, "member_data": {"b": 1, "a": 2}}),
    ("set_member", {"cert": NEW.certificate, "encryption_pub_key": NEW.encryption_pem, "recovery_role": "Owner"}),
    ("set_member", {"cert": NEW.certificate}),
    ("remove_member", {"member_id": "$member"}),
    ("remove_member", {"member_id": "00" * 32}),
    ("set_member_data", {"member_id": "$member", "member_data": {"z": [1.5, None], "a": "ä"}}),
    ("set_user", {"cert": USER.certificate}),
    ("set_user", {"cert": USER.certificate, "user_data": {"z": 1, "a": 2}}),
    ("remove_user", {"user_id": USER.id}),
    ("set_user_data", {"user_id": USER.id, "user_data": {"z": 1, "a": 2}}),
    ("set_user_data", {"user_id": USER.id}),
    ("set_recovery_threshold", {"recovery_threshold": 2}),
    ("set_service_configuration", {"recovery_threshold": 3, "recent_cose_proposals_window_size": 5}),
    ("set_service_configuration", {"reconfiguration_type": "TwoTransaction"}),
    ("trigger_recovery_shares_refresh", None),
    ("trigger_ledger_rekey", None),
    ("trigger_ledger_chunk", None),
    ("transition_service_to_open", {"next_service_identity": "$service"}),
    ("assert_service_identity", {"service_identity": "$service"}),
    ("set_js_app", {"bundle": APP, "disable_bytecode_cache": True}),
    ("set_js_app", {"bundle": APP}),
    ("remove_js_app", None),
    ("refresh_js_app_bytecode_cache", None),
    ("set_js_runtime_options", {"max_heap_bytes": 1 << 20, "max_stack_bytes": 1 << 19, "max_execution_time_ms": 1000}),
    ("set_ca_cert_bundle", {"name": "ca", "cert_bundle": USER.certificate + NEW.certificate}),
    ("remove_ca_cert_bundle", {"name": "ca"}),
    ("set_jwt_issuer", {"issuer": ISSUER, "auto_refresh": False}),
    ("set_jwt_issuer", {"issuer": ISSUER, "jwks": {"keys": [JWK_EC, JWK_X5C]}}),
    ("set_jwt_issuer", {"issuer": ISSUER, "auto_refresh": True, "ca_cert_bundle_name": "there"}),
    ("set_jwt_public_signing_keys", {"issuer": "https://there.example", "jwks": {"keys": [JWK_EC]}}),
    ("remove_jwt_issuer", {"issuer": "https://there.example"}),
    ("remove_jwt_issuer", {"issuer": "https://nowhere.example"}),
    ("add_node_code", {"code_id": "ab"}),
    ("remove_node_code", {"code_id": "ab"}),
    ("add_snp_measurement", {"measurement": "ab"}),
    ("remove_snp_measurement", {"measurement": "ab"}),
    ("add_snp_host_data", {"host_data": digest(POLICY), "security_policy": POLICY}),
    ("add_snp_host_data", {"host_data": digest("other"), "security_policy": ""}),
    ("remove_snp_host_data", {"host_data": digest(POLICY)}),
    ("add_snp_uvm_endorsement", {"did": "did:x509:0", "feed": "f", "svn": "1"}),
    ("add_snp_uvm_endorsement", {"did": "did:there", "feed": "other", "svn": "2"}),
    ("remove_snp_uvm_endorsement", {"did": "did:there", "feed": "feed"}),
    ("set_snp_minimum_tcb_version", {
        "cpuid": "00a00f11", "tcb_version": {"boot_loader": 4, "tee": 0, "snp": 21, "microcode": 211},
    }),
    ("remove_snp_minimum_tcb_version", {"cpuid": "00a10f11"}),
    ("set_node_data", {"node_id": NODE, "node_data": {"z": 1, "a": 2}}),
    ("remove_node", {"node_id": NODE}),
    ("remove_node", {"node_id": "00" * 32}),
]  # fmt: skip
ONLY_OURS = {"set_constitution", "trigger_snapshot", "add_virtual_measurement", "remove_virtual_measurement", "add_virtual_host_data",
             "remove_virtual_host_data", "set_snp_minimum_tcb_version_hex", "transition_node_to_trusted",
             "set_node_certificate_validity", "set_all_nodes_certificate_validity", "set_service_certificate_validity"}  # fmt: skip


class Asked:
    """The node's side, which only records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name)


def state() -> Store:
    """The tables of an open service, with a row of each kind."""
    consortium = opened(4, threshold=1)
    consortium.commit({
        tables.NODES: {NODE.encode(): write_json({"status": "Trusted"})},
        "public:ccf.gov.tls.ca_cert_bundles": {b"there": write_json(USER.certificate)},
        tables.JWT_ISSUERS: {b"https://there.example": b'{"issuer":"https://there.example"}'},
        tables.JWT_KEYS: {b"old": write_json([{"issuer": "https://there.example", "public_key": "AA=="}])},
        "public:ccf.gov.nodes.snp.uvm_endorsements": {b"did:there": b'{"feed":{"svn":"1"}}'},
        "public:ccf.gov.nodes.snp.tcb_versions": {b"00a10f11": b"{}"},
        tables.SIGNATURES: {tables.ONLY: write_json({"root": "ab" * 32})},
        tables.PROPOSALS_INFO: {b"11" * 32: b'{"ballots":{},"proposer_id":"x","state":"Open"}'},
    })  # fmt: skip
    return consortium.store


STORE, CONSORTIUM = state(), Consortium(4)


def given(action: str, args: Any) -> str:
    text = json.dumps({"actions": [{"name": action} if args is None else {"name": action, "args": args}]})
    service = json.dumps(CONSORTIUM.certificate)[1:-1]
    return text.replace("$service", service).replace("$member", CONSORTIUM.members[1].id)


def applied(source: str, text: str) -> tuple[Any, list[str]]:
    transaction, asked = STORE.begin(), Asked()
    rules = Constitution(transaction, Rules(), source)
    assert rules.validate(text) is None
    rules.apply(text, "00" * 32, asked)
    return {name: dict(rows) for name, rows in transaction.writes.items()}, asked.calls


def of_ccf() -> str:
    for entry in real.entries("flipflop"):
        found = json.loads(entry.writes[tables.CONSTITUTION][tables.ONLY] or b"")
        assert isinstance(found, str)
        return found
    raise AssertionError


@real.needed
def test_ccfs_constitution_loads_unchanged() -> None:
    """All 49,708 bytes of it, and it validates."""
    source = of_ccf()
    assert len(source) == 49_708
    constitution.check(source)
    problem = Constitution(STORE.begin(), Rules(), source).validate('{"actions": [{"name": "no_such"}]}')
    assert problem == "no_such: no such action"


@real.needed
@pytest.mark.parametrize(("action", "args"), ACTIONS)
def test_each_action_as_ccf(action: str, args: Any) -> None:
    """Each action writes the rows that CCF's does, and calls the node in the same way.

    What CCF does for its cache of bytecode and of a table of 1.x is left aside.
    """
    text = given(action, args)
    ours, asked = applied(constitution.ours(), text)
    theirs, theirs_asked = applied(of_ccf(), text)
    theirs.pop("public:ccf.gov.history", None)

    def rows(writes: Any) -> Any:
        """JSON by its value: the order of members is not part of it."""

        def value(raw: bytes | None) -> Any:
            try:
                return None if raw is None else json.loads(raw)
            except ValueError:
                return raw

        return {name: {key: value(raw) for key, raw in each.items()} for name, each in writes.items()}

    assert rows(ours) == rows(theirs)
    assert asked == theirs_asked


def test_every_action_is_compared() -> None:
    """With CCF's, or by another test."""
    names = re.findall(r"^  (\w+): (?:\[|allow|disallow)", constitution.ours(), re.MULTILINE)
    assert set(names) == {name for name, _ in ACTIONS} | ONLY_OURS
    assert len(names) == 45


@pytest.mark.parametrize(
    ("action", "args", "table", "key", "value"),
    [
        ("add_virtual_measurement", {"measurement": "m"}, "nodes.virtual.measurements", b"m", '"AllowedToJoin"'),
        ("remove_virtual_measurement", {"measurement": "m"}, "nodes.virtual.measurements", b"m", None),
        ("add_virtual_host_data", {"host_data": "h", "metadata": "x"}, "nodes.virtual.host_data", b"h", '"x"'),
        ("remove_virtual_host_data", {"host_data": "h"}, "nodes.virtual.host_data", b"h", None),
        ("set_snp_minimum_tcb_version_hex", {"cpuid": "00a00f11", "tcb_version": "d315000000000004"},
         "nodes.snp.tcb_versions", b"00a00f11",
         '{"boot_loader":4,"tee":0,"snp":21,"microcode":211,"hexstring":"d315000000000004"}'),
    ],
)  # fmt: skip
def test_newer_actions(action: str, args: Any, table: str, key: bytes, value: str | None) -> None:
    """Those that CCF's recorded constitution does not have yet."""
    writes, _ = applied(constitution.ours(), given(action, args))
    assert writes["public:ccf.gov." + table] == {key: None if value is None else value.encode()}


@pytest.mark.parametrize(
    ("action", "args", "problem"),
    [
        ("set_jwt_issuer", {"issuer": ISSUER, "jwks": {"keys": [{"kid": "a", "kty": "RSA", "n": "!", "e": "AQAB"}]}}, "whole RSA or EC key"),
        ("set_jwt_issuer", {"issuer": ISSUER, "jwks": {"keys": [{**JWK_X5C, "issuer": "https://c.example"}]}}, "another host"),
        ("set_jwt_issuer", {"issuer": ISSUER, "jwks": {"keys": [{**JWK_X5C, "issuer": "https://evilb.example"}]}}, "another host"),
        ("set_jwt_issuer", {"issuer": ISSUER, "jwks": {"keys": [JWK_EC, {**JWK_X5C, "kid": "ec"}]}}, "have the kid ec"),
        ("set_jwt_issuer", {"issuer": ISSUER, "auto_refresh": True, "ca_cert_bundle_name": "no"}, "no CA certificate bundle 'no'"),
        ("set_jwt_public_signing_keys", {"issuer": ISSUER, "jwks": {"keys": [JWK_EC]}}, "issuer https://b.example does not exist"),
        ("remove_snp_minimum_tcb_version", {"cpuid": "00b00f21"}, "does not exist"),
        ("set_snp_minimum_tcb_version_hex", {"cpuid": "00000000", "tcb_version": "d315000000000004"}, "CPUID of Milan"),
        ("set_node_data", {"node_id": "00" * 32, "node_data": 1}, "does not exist"),
    ],
)  # fmt: skip
def test_an_action_that_fails(action: str, args: Any, problem: str) -> None:
    """``apply`` throws, with the reason."""
    with pytest.raises(ConstitutionFailed, match=problem):
        applied(constitution.ours(), given(action, args))


@pytest.mark.parametrize(
    ("action", "args", "problem"),
    [
        ("set_user", {"cert": "x"}, "valid X509 certificate"),
        ("set_user", {"cert": of_odd_version(USER.certificate)}, "valid X509 certificate"),
        ("set_user", {"cert": USER.certificate, "user_dat": {}}, "user_dat is not known"),
        ("set_member", {"cert": NEW.certificate, "recovery_role": "Owner"}, "needs an encryption_pub_key"),
        ("set_recovery_threshold", {"recovery_threshold": 255}, "an integer from 1 to 254"),
        ("set_recovery_threshold", {"recovery_threshold": 1.5}, "an integer"),
        ("assert_service_identity", {"service_identity": USER.certificate}, "another identity"),
        ("add_snp_host_data", {"host_data": "00" * 32, "security_policy": POLICY}, "and not host_data"),
        ("set_jwt_issuer", {"issuer": ISSUER, "auto_refresh": True}, "needs a ca_cert_bundle_name"),
        ("set_jwt_issuer", {"issuer": "http://x", "auto_refresh": True, "ca_cert_bundle_name": "a"}, "https:// URL"),
        ("set_jwt_issuer", {"issuer": ISSUER, "jwks": {"keys": [{"kid": "a", "kty": "RSA"}]}}, "n is missing"),
        ("set_js_app", {"bundle": {**APP, "modules": []}}, "is not in the bundle"),
        ("set_constitution", {"constitution": "x("}, "not valid"),
        ("trigger_snapshot", None, "nodes of this service take no snapshots"),
        ("set_snp_minimum_tcb_version", {"cpuid": "00A00F11", "tcb_version": {}}, "lower-case"),
    ],
)  # fmt: skip
def test_arguments_that_are_refused(action: str, args: Any, problem: str) -> None:
    """``validate`` states what is wrong, and in which action."""
    found = Constitution(STORE.begin(), Rules(), constitution.ours()).validate(given(action, args))
    assert found is not None
    assert found.startswith(f"{action} at position 0 failed validation: Error: ") or "TypeError" in found
    assert problem in found


def test_phases() -> None:
    """Tables that a phase may not read or write, as CCF has it."""
    source = """
        const act = (text) => { const [map, what] = JSON.parse(text); const key = new ArrayBuffer(1);
            const table = ccf.kv[map];
            ({get: () => table.get(key), set: () => table.set(key, key), size: () => table.size,
              delete: () => table.delete(key), clear: () => table.clear(), each: () => table.forEach(() => {})})[what](); };
        export const validate = (text) => { act(text); return {valid: true, description: ""}; };
        export const resolve = () => "Open";
        export const apply = act;"""
    reads, writes = ("get", "size", "each"), ("set", "delete")
    allowed = {
        "public:ccf.gov.users.info": (reads, (*reads, *writes, "clear")),
        "public:ccf.internal.signatures": (reads, reads),
        "ccf.internal.x": ((), ()),
        "public:ccf.other": ((), ()),
        "ccf.gov.x": ((), ()),
        "public:app": ((), (*writes, "clear")),
        "app": ((), (*writes, "clear")),
        "PUBLIC:ccf.gov.x": ((), (*writes, "clear")),
    }
    for table, (judging, applying) in allowed.items():
        for what in (*reads, *writes, "clear"):
            text = json.dumps([table, what])
            rules = Constitution(STORE.begin(), Rules(), source)
            assert (rules.validate(text) is None) == (what in judging), (table, what)
            try:
                Constitution(STORE.begin(), Rules(), source).apply(text, "", Asked())
                done = True
            except ConstitutionFailed:
                done = False
            assert done == (what in applying), (table, what)


VALID = "export const validate = 1, resolve = 1, apply = 1;"


@pytest.mark.parametrize("source", ["ccf.kv;", "while (true) {}", "throw 1;", "await 1; null.x;"])
def test_what_is_proposed_is_not_evaluated(source: str) -> None:
    """Nobody accepted it yet: it is compiled and linked."""
    constitution.check(source + VALID)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("export const validate = 1;", "does not export resolve, apply"),
        ("export * from 'stop';", "does not export validate, resolve, apply"),
        ("import 'elsewhere';" + VALID, "module not found"),
        ("export const validate = ;", "SyntaxError"),
    ],
)
def test_what_is_proposed_is_linked(source: str, problem: str) -> None:
    """A source that is no module, or exports too little, is refused."""
    with pytest.raises(HostFault, match=problem):
        constitution.check(source)


def test_what_is_proposed_has_a_ballots_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the last one, after which a node ends: one person wrote it."""
    seen = []

    class Noted(constitution.Engine):
        def __init__(self, limits: Limits) -> None:
            seen.append(limits)
            super().__init__(limits)

    monkeypatch.setattr(constitution, "Engine", Noted)
    constitution.check(VALID, IN_A_NODE)
    assert seen == [dataclasses.replace(IN_A_NODE.ballot, heap=IN_A_NODE.constitution.heap)]


def test_evaluating_a_module_reads_nothing() -> None:
    """A constitution that was accepted is evaluated once without tables."""
    with pytest.raises(ScriptThrew, match="ccf is not defined"):
        constitution.evaluate("ccf.kv;" + VALID, Rules())


def test_buffers() -> None:
    """Texts, JSON and buffers become each other, as in CCF."""
    source = """
        export function validate() {
            const seen = [ccf.bufToStr(ccf.strToBuf("ä€")), ccf.strToBuf("ä").byteLength,
                ccf.bufToJsonCompatible(ccf.jsonCompatibleToBuf({b: 1, a: [null]})),
                ccf.strToBuf("x") instanceof ArrayBuffer, typeof ccf.kv["public:ccf.gov.x"].get(new ArrayBuffer(8)),
                ccf.kv["public:ccf.gov.constitution"].get(new ArrayBuffer(8)) instanceof ArrayBuffer,
                ccf.kv["public:ccf.gov.constitution"].has(new ArrayBuffer(8)), typeof ccf.node];
            for (const wrong of [() => ccf.strToBuf(1), () => ccf.bufToStr("x"), () => ccf.jsonCompatibleToBuf(undefined),
                () => { ccf.kv.x = 1; }, () => ccf.kv[""], () => ccf.kv["public:ccf.gov.x"].get("x")]) {
                try { wrong(); seen.push("no error"); } catch (e) { seen.push(e.name); }
            }
            return {valid: false, description: JSON.stringify(seen)};
        }"""
    found = Constitution(STORE.begin(), Rules(), source).validate("{}")
    assert json.loads(found or "") == [
        "ä€", 2, {"b": 1, "a": [None]}, True, "undefined", True, True, "undefined",
        "TypeError", "TypeError", "TypeError", "TypeError", "RangeError", "TypeError",
    ]  # fmt: skip


def test_a_node_ends_with_a_script_that_nothing_interrupts() -> None:
    """Its rules are the ordinary ones, and a last bound; an auditor's and a library's have none."""
    assert IN_A_NODE.ballot == dataclasses.replace(OF_BALLOT, last=60.0)
    assert IN_A_NODE.constitution == dataclasses.replace(OF_CONSTITUTION, last=60.0)
    assert {each.last for rules in (Rules(), AUDIT) for each in (rules.ballot, rules.constitution)} == {None}
    default = Governance(None, None)  # type: ignore[arg-type] # neither is used to begin with
    assert default.rules is IN_A_NODE
