"""What CCF's governance API answers of a service, and what a node does of what its members decide."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.ledger.governance.scripts import crypto
from tests.services.ledger.members import get, open_by_member
from tests.services.ledger.world import ADMIN, MEMBER, MEMBER_RSA, Served, World, run


@pytest.fixture
def world(tmp_path: Any) -> World:
    """A ledger that nobody has opened."""
    return World(tmp_path / "ledger", open=False)


def test_members_renew_a_nodes_certificate(world: World) -> None:
    """The node shows it to new connections, and in its signatures, without a restart."""

    async def test(served: Served) -> None:
        member, node = await open_by_member(served), served.node
        assert node.identity is not None
        before, context = node.identity.certificate, node.shown.context
        arguments = {"valid_from": "261128190000Z", "validity_period_days": 30}
        decided = await member.decide("set_all_nodes_certificate_validity", **arguments)
        assert decided.json()["proposalState"] == "Accepted", decided.text
        (listed,) = (await get(served, "service/nodes")).json()["value"]
        assert before != listed["certificate"] == node.identity.certificate
        issued = x509.load_pem_x509_certificate(listed["certificate"].encode())
        assert issued.not_valid_after_utc == world.clock.now() + timedelta(days=30)
        was = x509.load_pem_x509_certificate(before.encode())
        names = x509.SubjectAlternativeName
        assert issued.extensions.get_extension_for_class(names) == was.extensions.get_extension_for_class(
            names
        )
        assert node.shown.context is not context
        txid = await served.write("after")
        receipt = (await served.ask("GET", f"/app/transactions/{txid}/receipt")).json()["receipt"]
        assert receipt["cert"] == listed["certificate"]

    run(world, test)


def test_what_members_decided_is_answered_as_ccf_answers_it(world: World) -> None:
    """Members, policies, issuers, authorities and scripts are those of the tables, in the API's own words."""
    pem = MEMBER_RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    key = {"kty": "RSA", "kid": "one", **crypto.jwk(pem, "RSA")}
    endpoint = {
        "js_module": "a.js", "js_function": "f", "mode": "readonly", "forwarding_required": "never",
        "authn_policies": ["no_auth"],
    }  # fmt: skip
    bundle = {
        "metadata": {"endpoints": {"/a": {"get": endpoint}}},
        "modules": [{"name": "a.js", "module": "export const f = () => 1;"}],
    }

    async def test(served: Served) -> None:
        member = await open_by_member(served)
        decisions: list[tuple[str, dict[str, Any]]] = [
            ("set_member", {"cert": ADMIN.pem}),
            ("set_ca_cert_bundle", {"name": "ca", "cert_bundle": ADMIN.pem}),
            (
                "set_jwt_issuer",
                {"issuer": "https://a.example", "ca_cert_bundle_name": "ca", "jwks": {"keys": [key]}},
            ),
            ("add_node_code", {"code_id": "cd"}),
            ("add_snp_measurement", {"measurement": "ef"}),
            ("add_snp_host_data", {"host_data": "00" * 32, "security_policy": ""}),
            ("add_snp_uvm_endorsement", {"did": "did:x509:0", "feed": "f", "svn": "1"}),
            ("set_js_app", {"bundle": bundle}),
        ]
        for name, arguments in decisions:
            decided = await member.decide(name, **arguments)
            assert decided.json()["proposalState"] == "Accepted", decided.text
        members = {one["memberId"]: one for one in (await get(served, "service/members")).json()["value"]}
        assert {who: one["recoveryRole"] for who, one in members.items()} == {
            MEMBER.id: "Participant",
            ADMIN.id: "NonParticipant",
        }
        policy = (await get(served, "service/join-policy")).json()
        assert policy["sgx"] == {"measurements": ["cd"]}
        assert policy["snp"] == {
            "measurements": ["ef"],
            "hostData": {"00" * 32: ""},
            "uvmEndorsements": {"did:x509:0": {"f": {"svn": "1"}}},
            "tcbVersions": {},
        }
        jwk = (await get(served, "service/jwk")).json()
        assert jwk == {
            "issuers": {"https://a.example": {"autoRefresh": False, "caCertBundleName": "ca"}},
            "keys": {"one": [{"publicKey": pem, "issuer": "https://a.example", "constraint": None}]},
            "caCertBundles": {"ca": ADMIN.pem},
        }
        (node,) = (await get(served, "service/nodes")).json()["value"]
        assert node["quoteInfo"]["details"]["measurement"] == "ab" * 32
        assert node["rpcInterfaces"]["primary_rpc_interface"]["publishedAddress"] == "127.0.0.1:8000"
        assert node["retiredCommitted"] is False
        shown = (await get(served, "service/javascript-app")).json()["endpoints"]["/a"]["GET"]
        assert (shown["jsModule"], shown["jsFunction"], shown["openApi"]) == ("/a.js", "f", {})
        modules = (await get(served, "service/javascript-modules")).json()
        assert modules == {"value": [{"moduleName": "/a.js"}]}
        assert (await served.ask("GET", "/app/a")).status_code == 404
        fetched = {"issuer": "https://b.example", "auto_refresh": True, "ca_cert_bundle_name": "ca"}
        await member.decide("set_jwt_issuer", **fetched)
        served.application.tend()
        jwk = (await get(served, "service/jwk")).json()
        assert jwk["issuers"]["https://b.example"]["autoRefresh"]
        assert list(jwk["keys"]) == ["one"]
        info = (await get(served, "service/info")).json()
        assert info["previousServiceCreationTransactionId"] == "2.1"
        assert info["configuration"]["recentCoseProposalsWindowSize"] == 100

    run(world, test)
