"""Runs with the Python of one version of Azure Confidential Ledger's client; the world is one line of JSON.

Each line out is a scenario's name and the error that the client had, or null.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import sys
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azure.confidentialledger import ConfidentialLedgerCertificateCredential, ConfidentialLedgerClient
from azure.confidentialledger.aio import ConfidentialLedgerClient as AsyncClient
from azure.confidentialledger.certificate import ConfidentialLedgerCertificateClient
from azure.confidentialledger.receipt import verify_receipt
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential

SCENARIOS: dict[str, Callable[[], None]] = {}
WORLD: dict[str, Any] = {}
OWN = uuid.uuid4().hex[:6]  # of this run: another version has written to the ledger before


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    """Run this one, too."""
    SCENARIOS[function.__name__] = function
    return function


def credential(name: str) -> ClientSecretCredential:
    """A client of the development issuer."""
    return ClientSecretCredential(
        WORLD["tenant"],
        name,
        WORLD["secrets"][name],
        authority=WORLD["issuer"],
        disable_instance_discovery=True,
        connection_verify=WORLD["ca"],
    )


def client(who: str = "admin") -> ConfidentialLedgerClient:
    """A client by bearer token, or by certificate."""
    by = ConfidentialLedgerCertificateCredential(WORLD["pem"]) if who == "pem" else credential(who)
    return ConfidentialLedgerClient(WORLD["url"], by, ledger_certificate_path=WORLD["service"])


def service() -> str:
    """The service's certificate, PEM."""
    return Path(WORLD["service"]).read_text()


def plain(value: Any) -> Any:
    """JSON of what either version gives: dictionaries, or models."""
    return value.as_dict() if hasattr(value, "as_dict") else value


def refused(status: int, function: Callable[[], Any]) -> HttpResponseError:
    """The refusal that a call ends in."""
    try:
        function()
    except HttpResponseError as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"want {status}, got an answer")


@scenario
def entries_are_written_and_read() -> None:
    """The default collection, a transaction id, and the same contents back."""
    ledger = client()
    assert ledger.create_ledger_entry({"contents": "Hello world"})["collectionId"] == "subledger:0"
    txid = ledger.begin_create_ledger_entry({"contents": "again"}).result()["transactionId"]
    assert re.fullmatch(r"\d+\.\d+", txid)
    assert ledger.begin_wait_for_commit(txid).result()["state"] == "Committed"
    assert ledger.begin_get_ledger_entry(txid).result()["entry"]["contents"] == "again"
    assert ledger.get_transaction_status(txid)["state"] == "Committed"


@scenario
def receipts_verify_with_their_claims_and_no_others() -> None:
    """By the client's own verifier, which knows only the service's certificate."""
    ledger = client()
    txid = ledger.begin_create_ledger_entry({"contents": "proven"}).result()["transactionId"]
    answer = plain(ledger.begin_get_receipt(txid).result())
    receipt, claims = answer["receipt"], answer["applicationClaims"]
    verify_receipt(receipt, service())
    verify_receipt(receipt, service(), application_claims=claims)

    def bad(change: Callable[[Any, Any], None]) -> None:
        doctored, stated = copy.deepcopy(receipt), copy.deepcopy(claims)
        change(doctored, stated)
        try:
            verify_receipt(doctored, service(), application_claims=stated)
        except ValueError:
            return
        raise AssertionError("want a receipt that is refused, got one that verifies")

    leaf, other = receipt["leafComponents"], "00" * 32
    bad(lambda r, c: c[0]["ledgerEntry"].update(contents="other"))
    bad(lambda r, c: c[0]["ledgerEntry"].update(collectionId="other"))
    bad(lambda r, c: r["leafComponents"].update(writeSetDigest=other))
    bad(lambda r, c: r["leafComponents"].update(claimsDigest=other))
    bad(lambda r, c: r["leafComponents"].update(commitEvidence=leaf["commitEvidence"][:-1] + "z"))
    bad(lambda r, c: r["proof"].append({"left": other}))
    bad(lambda r, c: r.update(nodeId=other))
    bad(lambda r, c: r.update(signature=receipt["signature"][:-8] + "AAAAAAA="))
    bad(lambda r, c: r.pop("leafComponents"))


@scenario
def collections_are_listed_in_order_across_pages() -> None:
    """250 entries of three collections; a range of one of them; the last one is the current."""
    ledger, ids = client(), {}
    for number in range(250):
        poller = ledger.begin_create_ledger_entry(
            {"contents": f"n{number}"}, collection_id=f"{OWN} {number % 3}/x"
        )
        ids[number] = poller.result()["transactionId"]
    listed = list(ledger.list_ledger_entries(collection_id=f"{OWN} 1/x"))
    assert [one["contents"] for one in listed] == [f"n{number}" for number in range(1, 250, 3)]
    part = ledger.list_ledger_entries(
        collection_id=f"{OWN} 2/x", from_transaction_id=ids[2], to_transaction_id=ids[20]
    )
    assert [one["transactionId"] for one in part] == [ids[number] for number in range(2, 21, 3)]
    names = {one["collectionId"] for one in ledger.list_collections()}
    assert {f"{OWN} 0/x", f"{OWN} 1/x", f"{OWN} 2/x"} <= names
    assert ledger.get_current_ledger_entry(collection_id=f"{OWN} 0/x")["contents"] == "n249"


@scenario
def users_by_certificate() -> None:
    """A fingerprint is added, writes, and may not govern; then it is taken away."""
    ledger, user = client(), WORLD["fingerprint"]
    by_certificate = client("pem")
    refused(403, lambda: by_certificate.create_ledger_entry({"contents": "x"}))
    made = ledger.create_or_update_user(user, {"assignedRole": "Contributor"})
    assert made["userId"] == user
    assert ledger.get_user(user)["assignedRole"] == "Contributor"
    by_certificate.create_ledger_entry({"contents": "by certificate"})
    error = refused(403, lambda: by_certificate.get_user(user))
    assert "Not allowed to call GET /app/users/" in str(error)
    ledger.delete_user(user)
    refused(403, lambda: by_certificate.create_ledger_entry({"contents": "x"}))
    refused(404, lambda: ledger.get_user(user))


@scenario
def what_no_one_may_do() -> None:
    """A reader writes nothing, a stranger's token holds nowhere, and ids of the future end soon."""
    refused(403, lambda: client("reader").create_ledger_entry({"contents": "x"}))
    assert list(client("reader").list_collections()) is not None
    refused(403, lambda: client("stale").create_ledger_entry({"contents": "x"}))
    ledger = client()
    try:
        ledger.begin_wait_for_commit("2.99999999").result()
    except ResourceNotFoundError as error:
        assert "TransactionPendingOrUnknown" in str(error)
    else:
        raise AssertionError("want a refusal, got a state")
    refused(400, lambda: ledger.get_transaction_status("x.y"))
    refused(400, lambda: ledger.create_ledger_entry({"contents": "x" * 9000}))


@scenario
def the_service_tells_of_itself() -> None:
    """Constitution, members, quotes of every node, and the certificate that clients bootstrap with."""
    import hashlib

    ledger = client()
    constitution = ledger.get_constitution()
    assert constitution["digest"] == hashlib.sha256(constitution["script"].encode()).hexdigest()
    assert [one["id"] for one in ledger.list_consortium_members()] == [WORLD["member"]]
    quotes = ledger.get_enclave_quotes()
    assert quotes["currentNodeId"] in quotes["enclaveQuotes"]
    own = quotes["enclaveQuotes"][quotes["currentNodeId"]]
    assert own["mrenclave"] == WORLD["image"]
    bootstrap = ConfidentialLedgerCertificateClient(
        certificate_endpoint=WORLD["url"], connection_verify=WORLD["service"]
    )
    identity = bootstrap.get_ledger_identity(ledger_id="mine")
    assert identity["ledgerTlsCertificate"] == service()


@scenario
def roles_are_defined_where_the_client_can() -> None:
    """Only the newer client has roles and users of several; tags find their entries."""
    ledger, user = client(), WORLD["fingerprint"]
    if not hasattr(ledger, "create_user_defined_role"):
        return
    ledger.create_user_defined_role({"roles": [{"roleName": "auditor", "roleActions": ["/content/read"]}]})
    assert ledger.get_user_defined_role(role_name="auditor")["roles"][0]["roleActions"] == ["/content/read"]
    ledger.create_or_update_ledger_user(user, {"assignedRoles": ["auditor"]})
    assert user in [one["userId"] for one in ledger.list_ledger_users()]
    assert list(client("pem").list_collections()) is not None
    ledger.delete_ledger_user(user)
    ledger.delete_user_defined_role(role_name="auditor")
    ledger.create_ledger_entry({"contents": "tagged"}, collection_id=f"{OWN} tags", tags=f"{OWN}a,{OWN}b")
    ledger.create_ledger_entry({"contents": "other"}, collection_id=f"{OWN} tags", tags=f"{OWN}c")
    found = list(ledger.list_ledger_entries(collection_id=f"{OWN} tags", tag=f"{OWN}b"))
    assert [one["contents"] for one in found] == ["tagged"]


@scenario
def javascript_is_refused_with_its_name() -> None:
    """User-defined endpoints and functions are not served."""
    ledger = client()
    if not hasattr(ledger, "get_user_defined_endpoint"):
        return
    for what, call in (
        ("endpoints", ledger.get_user_defined_endpoint),
        ("functions", lambda: list(ledger.list_user_defined_functions())),
    ):
        assert f"user-defined {what}" in str(refused(400, call))


@scenario
def a_wrong_trust_root_connects_to_nothing() -> None:
    """Only the service's certificate is trusted."""
    wrong = ConfidentialLedgerClient(WORLD["url"], credential("admin"), ledger_certificate_path=WORLD["ca"])
    try:
        wrong.create_ledger_entry({"contents": "x"})
    except HttpResponseError as error:
        raise AssertionError("want no connection, got an answer") from error
    except Exception as error:
        assert "CERTIFICATE_VERIFY_FAILED" in str(error), error


@scenario
def asynchronously() -> None:
    """The same, by the client for asyncio."""
    from azure.identity.aio import ClientSecretCredential as AsyncSecret

    async def run() -> None:
        secret = AsyncSecret(
            WORLD["tenant"],
            "workload",
            WORLD["secrets"]["workload"],
            authority=WORLD["issuer"],
            disable_instance_discovery=True,
            connection_verify=WORLD["ca"],
        )
        async with (
            secret,
            AsyncClient(WORLD["url"], secret, ledger_certificate_path=WORLD["service"]) as ledger,
        ):
            poller = await ledger.begin_create_ledger_entry(
                {"contents": "async"}, collection_id=f"{OWN} async"
            )
            txid = (await poller.result())["transactionId"]
            answer = plain(await (await ledger.begin_get_receipt(txid)).result())
            verify_receipt(answer["receipt"], service())
            entries = [one async for one in ledger.list_ledger_entries(collection_id=f"{OWN} async")]
            assert [one["contents"] for one in entries] == ["async"]

    asyncio.run(run())


@scenario
def no_credential_is_refused() -> None:
    """As a client's own error for that."""
    from azure.core.credentials import AccessToken

    class Forged:
        def get_token(self, *scopes: str, **more: Any) -> AccessToken:
            return AccessToken("a.b.c", 1 << 40)

    ledger = ConfidentialLedgerClient(WORLD["url"], Forged(), ledger_certificate_path=WORLD["service"])
    try:
        ledger.create_ledger_entry({"contents": "x"})
    except ClientAuthenticationError:
        return
    raise AssertionError("want ClientAuthenticationError, got an answer")


def main() -> None:
    """Run them all."""
    WORLD.update(json.loads(sys.stdin.readline()))
    for name, function in SCENARIOS.items():
        error = None
        try:
            function()
        except Exception:
            error = traceback.format_exc(limit=-4)
        print(json.dumps({"name": name, "error": error}), flush=True)


if __name__ == "__main__":
    main()
