"""Endpoints in Python: typed, each call one transaction, with claims, for the callers that they name."""

from __future__ import annotations

import json

import msgspec
import pytest
from cryptography import x509

from kluis.errors import UsageError
from kluis.formats.ccf.receipt import Receipt
from kluis.hashes import sha256
from kluis.ledger import receipts
from kluis.services.ledger.application import Application, State, refuse
from kluis.services.ledger.callers import LedgerCaller
from tests.services.ledger.world import ADMIN, MEMBER, NOBODY, Served, World, run

BALANCES = "public:balances"


class Transfer(msgspec.Struct):
    """An order."""

    to: str
    amount: int


class Balance(msgspec.Struct):
    """What is left."""

    balance: int


application = Application()


@application.endpoint("PUT /accounts/{name}", auth="member", mode="write")
def found(state: State, name: str) -> None:
    """Open an account with 100."""
    state.put(BALANCES, name.encode(), b"100")


@application.endpoint("POST /accounts/{name}/transfers", auth=("certificate", "jwt"), mode="write")
def transfer(state: State, caller: LedgerCaller, name: str, body: Transfer) -> Balance:
    """Move money."""
    left = int(state.get(BALANCES, name.encode()) or b"0") - body.amount
    state.put(BALANCES, name.encode(), str(left).encode())
    if left < 0:
        raise refuse("InsufficientFunds", f"account {name}: has less than {body.amount}")
    there = int(state.get(BALANCES, body.to.encode()) or b"0") + body.amount
    state.put(BALANCES, body.to.encode(), str(there).encode())
    state.claim(f"{name} {body.to} {body.amount} {caller.certificate_id}".encode())
    return Balance(left)


@application.endpoint("GET /accounts/{name}", auth="none", mode="read")
def balance(state: State, name: str) -> Balance:
    """Look at an account."""
    value = state.get(BALANCES, name.encode())
    if value is None:
        raise refuse("NoAccount", f"account {name}: there is none", 404)
    return Balance(int(value))


@application.endpoint("POST /grab", auth="none", mode="write")
def grab(state: State) -> None:
    """Reach for what is not the application's."""
    state.put("public:ccf.gov.members.info", b"k", b"v")


@application.endpoint("POST /sneak", auth="none", mode="read")
def sneak(state: State) -> None:
    """Write while reading."""
    state.put(BALANCES, b"k", b"1")


@application.endpoint("POST /sloppy/{what}", auth="none", mode="write")
def sloppy(state: State, what: str) -> None:
    """Write what is no bytes, as a typo would."""
    key, value = ("k", b"1") if what == "key" else (b"k", bytearray(b"1") if what == "bytearray" else "1")
    state.put(BALANCES, key, value)  # type: ignore[arg-type]  # which is the point


@application.endpoint("POST /boast", auth="none", mode="write")
def boast(state: State) -> None:
    """Claim something that no entry is of."""
    state.claim(b"anything")


@pytest.fixture
def bank(world: World) -> World:
    """A ledger with the application, which nobody has restarted."""
    world.application = application
    return world


def test_a_transfer_is_one_transaction_with_its_claim(bank: World) -> None:
    """Both accounts change, or neither; the receipt is of the claim."""

    async def test(served: Served) -> None:
        for name in ("a", "b"):
            assert (await served.ask("PUT", f"/app/accounts/{name}", MEMBER)).status_code == 204
        path, order = "/app/accounts/a/transfers", {"to": "b", "amount": 30}
        done = await served.ask("POST", path, ADMIN, json=order)
        assert (done.status_code, done.json()) == (200, {"balance": 70})
        txid = done.headers["x-ms-ccf-transaction-id"]
        answer = await served.ask("GET", f"/app/receipt?transaction_id={txid}", None)
        service = x509.load_pem_x509_certificate(served.node.service.certificate.encode())
        claim = sha256(f"a b 30 {ADMIN.id}".encode())
        receipts.verify(Receipt.parse(answer.content, "receipt"), service, claims_digest=claim)
        refused = await served.ask("POST", path, ADMIN, json={"to": "b", "amount": 71})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "InsufficientFunds")
        for name, left in (("a", 70), ("b", 130)):
            assert (await served.ask("GET", f"/app/accounts/{name}", None)).json() == {"balance": left}
        assert (await served.ask("GET", "/app/accounts/c", None)).status_code == 404

    run(bank, test)
    run(bank, lambda served: _has(served, "b", 130))


async def _has(served: Served, name: str, wanted: int) -> None:
    assert (await served.ask("GET", f"/app/accounts/{name}", None)).json() == {"balance": wanted}


def test_who_may_call(bank: World) -> None:
    """Only those whom an endpoint names: a certificate is not yet a member's."""

    async def test(served: Served) -> None:
        assert (await served.ask("PUT", "/app/accounts/x", ADMIN)).status_code == 401
        assert (await served.ask("PUT", "/app/accounts/x", None)).status_code == 401
        assert (await served.ask("PUT", "/app/accounts/x", MEMBER)).status_code == 204
        order = json.dumps({"to": "b", "amount": 1}).encode()
        assert (await served.ask("POST", "/app/accounts/x/transfers", None, content=order)).status_code == 401
        path = "/app/accounts/x/transfers"
        assert (await served.ask("POST", path, NOBODY, content=order)).status_code == 200

    run(bank, test)


def test_nobody_calls_an_endpoint_before_the_members_opened_the_service(bank: World) -> None:
    """Also those that anyone may call."""
    bank.open = False

    async def test(served: Served) -> None:
        before = served.node.ledger.committed
        for method, path in (("GET", "/app/accounts/a"), ("POST", "/app/boast"), ("PUT", "/app/accounts/a")):
            answer = await served.ask(method, path, MEMBER)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "FrontendNotOpen")
        assert served.node.ledger.committed == before

    run(bank, test)


def test_an_application_has_its_own_tables_only(bank: World) -> None:
    """Neither those of the ledger, nor any for writing where it only reads; and bodies are of their type."""

    async def test(served: Served) -> None:
        before = served.node.ledger.committed
        for path in ("/app/grab", "/app/sneak"):
            assert (await served.ask("POST", path, None)).status_code == 400
        wrong = await served.ask("POST", "/app/accounts/a/transfers", ADMIN, json={"to": "b", "amount": "x"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "InvalidInput")
        assert served.node.ledger.committed == before

    run(bank, test)


@pytest.mark.parametrize("what", ["key", "value", "bytearray"])
def test_a_mistake_of_an_application_ends_its_call_only(bank: World, what: str) -> None:
    """What no entry can hold is refused where it is put; the node goes on."""

    async def test(served: Served) -> None:
        answer = await served.ask("POST", f"/app/sloppy/{what}", None)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith(
            f"{what.replace('bytearray', 'value')}: want bytes, got "
        )
        assert served.node.engine.ended is None
        await served.write("after")

    run(bank, test)


def test_a_claim_without_an_entry_is_refused(bank: World) -> None:
    """No receipt would have it: the caller must not believe that one does."""

    async def test(served: Served) -> None:
        before = served.node.ledger.committed
        answer = await served.ask("POST", "/app/boast", None)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == (
            "endpoint boast: claims something and writes nothing, so no receipt has the claim"
        )
        assert served.node.ledger.committed == before

    run(bank, test)


def test_the_document_describes_the_endpoints(bank: World) -> None:
    """With the types of body and result."""

    async def test(served: Served) -> None:
        document = (await served.ask("GET", "/app/api", None)).json()
        found = document["paths"]["/app/accounts/{name}/transfers"]["post"]
        assert found["summary"] == "Move money."
        assert "Transfer" in json.dumps(found["requestBody"])
        assert "Balance" in json.dumps(found["responses"]["200"])

    run(bank, test)


@pytest.mark.parametrize(
    ("route", "auth", "mode"),
    [
        ("FETCH /x", "none", "read"),
        ("GET x", "none", "read"),
        ("GET /x", "king", "read"),
        ("GET /x", "none", "w"),
    ],
)
def test_what_is_no_endpoint_is_refused(route: str, auth: str, mode: str) -> None:
    """When the module is loaded."""
    with pytest.raises(UsageError, match="endpoint"):
        Application().endpoint(route, auth=auth, mode=mode)  # type: ignore[arg-type] # on purpose
    with pytest.raises(UsageError, match="want parameters"):

        @Application().endpoint("GET /x", auth="none", mode="read")
        def other(state: State, colour: str) -> None:
            """A parameter that nobody gives."""
