"""Callers of a ledger who want to be somebody else, or more than they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from kluis.errors import AuthenticityError
from kluis.formats.ccf import tables
from kluis.formats.ccf.receipt import Receipt
from kluis.formats.encoding import b64
from kluis.formats.encoding.jcs import Json
from kluis.hashes import sha256
from kluis.ledger import certificates, claims, receipts
from kluis.services.ledger.application import State
from kluis.services.ledger.running.engine import Result
from kluis.services.ledger.settings import Issuer, Principal
from tests.services.ledger.world import ADMIN, NOBODY, NOW, READER, WRITER, Served, World, run
from tests.services.web.issuer import TokenMaker

URL = "https://issuer.example/tenant"
OID = "11111111-2222-4333-8444-555555555555"
MAKER = TokenMaker(URL, "https://confidential-ledger.azure.com")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A ledger with an issuer of tokens."""
    made = World(tmp_path / "ledger", issuers=(Issuer(URL, MAKER.issuer().keys),))
    made.settings = {
        "principals": (
            Principal(ADMIN.user, ("Administrator",)),
            Principal(WRITER.user, ("Contributor",)),
            Principal(READER.user, ("Reader",)),
            Principal(OID, ("Contributor",)),
        )
    }
    return made


def _bearer(**claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {MAKER.token(now=NOW, **claims)}"}


@pytest.mark.parametrize("curve", [ec.SECP521R1(), ec.SECP256K1(), ec.SECP224R1()])
def test_a_key_on_another_curve_is_nobodys(world: World, curve: ec.EllipticCurve) -> None:
    """Its certificate gives no identity at all, though its owner proved the key."""

    async def test(served: Served) -> None:
        key = ec.generate_private_key(curve)
        pem = certificates.member_certificate(key, NOW, name="other")
        answer = await served.ask("GET", "/app/whoami", chain=[pem], version=False)
        assert answer.status_code == 401
        assert "want a key on P-256 or P-384, got another" in answer.json()["error"]["message"]

    run(world, test)


def test_a_chain_gives_nobody_elses_identity(world: World) -> None:
    """Only the first certificate's key was proved; who issued it, or comes after it, lends it nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.load_pem_x509_certificate(ADMIN.pem.encode()).subject
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(NOW).not_valid_after(NOW.replace(year=2027))
    pem = builder.sign(ADMIN.key, SHA256()).public_bytes(Encoding.PEM).decode()

    async def test(served: Served) -> None:
        assert (await served.ask("GET", "/app/users", chain=[ADMIN.pem, pem])).status_code == 200
        for chain in ([pem, ADMIN.pem], [NOBODY.pem, ADMIN.pem], [pem]):
            assert (await served.ask("GET", "/app/users", chain=chain)).status_code == 403
            who = (await served.ask("GET", "/app/whoami", chain=chain, version=False)).json()
            assert (who["identity"], who["roles"]) == (["certificate"], [])

    run(world, test)


@pytest.mark.parametrize("claim", ["oid", "sub"])
@pytest.mark.parametrize("form", ["canonical", "lower", "bare"])
def test_a_token_is_never_the_owner_of_a_certificate(world: World, claim: str, form: str) -> None:
    """Many issuers let a user choose a sub: the fingerprint of an administrator gives nothing."""
    named = {"canonical": ADMIN.user, "lower": ADMIN.user.lower(), "bare": ADMIN.id}[form]

    async def test(served: Served) -> None:
        header = _bearer(**{"oid": None, "sub": None, claim: named})
        for path in ("/app/users", "/app/transactions", "/app/whoami"):
            answer = await served.ask("GET", path, None, headers=header)
            assert answer.status_code == 401, answer.text

    run(world, test)


@pytest.mark.parametrize("oid", [["a"], {"a": "b"}, 7, "x" * 300])
def test_a_token_whose_user_is_no_text_of_a_users_size_is_refused(world: World, oid: object) -> None:
    """It is not cut, or written as text, to what somebody else may be called."""

    async def test(served: Served) -> None:
        answer = await served.ask("GET", "/app/whoami", None, headers=_bearer(oid=oid))
        assert answer.status_code == 401, answer.text

    run(world, test)


def test_a_request_id_is_its_users(world: World) -> None:
    """The same id and body by another user is another entry: nobody gets another's transaction by an id."""

    async def test(served: Served) -> None:
        body, ids = {"contents": "x"}, {"x-ms-client-request-id": "one"}
        by = [
            await served.ask("POST", "/app/transactions", who, json=body, headers={**ids, **header})
            for who, header in ((WRITER, {}), (ADMIN, {}), (None, _bearer(oid=OID)), (WRITER, {}))
        ]
        assert [one.status_code for one in by] == [200] * 4
        txids = [one.headers["x-ms-ccf-transaction-id"] for one in by]
        assert len(set(txids)) == 3
        assert txids[0] == txids[3]
        refused = await served.ask("POST", "/app/transactions", READER, json=body, headers=ids)
        assert refused.status_code == 403

    run(world, test)


def test_a_reader_reads(world: World) -> None:
    """Every operation that changes something refuses a reader, and everything refuses a stranger."""
    changes = [
        ("POST", "/app/transactions", {"contents": "x"}),
        ("PATCH", f"/app/users/{READER.user}", {"assignedRole": "Administrator"}),
        ("PATCH", f"/app/ledgerUsers/{READER.user}", {"assignedRoles": ["Administrator"]}),
        ("PATCH", f"/app/ledgerUsers/{quote(READER.user, safe='')}", {"assignedRoles": ["Administrator"]}),
        ("DELETE", f"/app/users/{ADMIN.user}", None),
        ("DELETE", f"/app/ledgerUsers/{ADMIN.user}", None),
        ("PUT", "/app/roles", {"roles": [{"roleName": "r", "roleActions": ["/users/write"]}]}),
        ("PATCH", "/app/roles", {"roles": [{"roleName": "r", "roleActions": ["/users/write"]}]}),
        ("DELETE", "/app/roles?roleName=r", None),
    ]

    async def test(served: Served) -> None:
        for method, path, body in changes:
            for slash in ("", "/"):
                where = path + slash if "?" not in path else path
                answer = await served.ask(method, where, READER, json=body)
                assert answer.status_code == 403, (where, answer.text)
                assert (await served.ask(method, where, NOBODY, json=body)).status_code == 403
                assert (await served.ask(method, where, None, json=body)).status_code == 401
        assert (await served.ask("GET", "/app/users", READER)).status_code == 403
        assert (await served.ask("GET", "/app/transactions", READER)).status_code == 200

    run(world, test)


async def _late(contents: bytes, between: Any) -> AsyncIterator[bytes]:
    yield contents[:1]
    await between()
    yield contents[1:]


def test_a_body_that_comes_late_is_judged_when_it_counts(world: World) -> None:
    """A user who is removed after its headers were admitted writes nothing with the rest of its body."""

    async def test(served: Served) -> None:
        async def remove() -> None:
            gone = await served.ask("DELETE", f"/app/users/{WRITER.user}", ADMIN)
            assert gone.status_code == 204

        body = _late(b'{"contents": "late"}', remove)
        headers = {"content-type": "application/json"}
        answer = await served.ask("POST", "/app/transactions", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "NotAllowed")

        async def demote() -> None:
            named = f"/app/users/{NOBODY.user}"
            assert (
                await served.ask("PATCH", named, ADMIN, json={"assignedRole": "Administrator"})
            ).status_code == 200
            demoted = f"/app/users/{ADMIN.user}"
            assert (
                await served.ask("PATCH", demoted, NOBODY, json={"assignedRole": "Reader"})
            ).status_code == 200

        body = _late(b'{"assignedRole": "Administrator"}', demote)
        answer = await served.ask("PATCH", f"/app/users/{ADMIN.user}", ADMIN, content=body, headers=headers)
        assert answer.status_code == 403
        listed = (await served.ask("GET", "/app/transactions", READER)).json()["entries"]
        assert listed == []

    run(world, test)


@pytest.mark.parametrize("path", ["/app/transactions", "/app/transactions/current", "/app/collections"])
def test_a_read_whose_body_comes_late_is_judged_when_it_counts(world: World, path: str) -> None:
    """A reader who is removed meanwhile reads nothing that was written since."""

    async def test(served: Served) -> None:
        await served.write("before")

        async def remove() -> None:
            gone = await served.ask("DELETE", f"/app/users/{READER.user}", ADMIN)
            assert gone.status_code == 204
            await served.write("after", "collectionId=subledger:0")

        headers = {"content-type": "application/json"}
        answer = await served.ask("GET", path, READER, content=_late(b"{}", remove), headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "NotAllowed")

    run(world, test)


def test_a_user_who_is_removed_in_the_same_batch_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both requests were admitted, and wait together; the removal came first."""

    async def test(served: Served) -> None:
        engine, go = served.node.engine, asyncio.Event()
        batch = engine._batch

        async def held() -> None:
            await go.wait()
            await batch()

        monkeypatch.setattr(engine, "_batch", held)
        asked = []
        for method, path, who, body in (
            ("DELETE", f"/app/users/{WRITER.user}", ADMIN, None),
            ("POST", "/app/transactions", WRITER, {"contents": "late"}),
        ):
            asked.append(asyncio.create_task(served.ask(method, path, who, json=body)))
            while len(engine._jobs) < len(asked):
                await asyncio.sleep(0.001)
        go.set()
        assert [(await each).status_code for each in asked] == [204, 403]
        assert (await served.ask("GET", "/app/transactions", READER)).json()["entries"] == []

    run(world, test)


def test_an_endpoints_caller_is_judged_when_it_counts(world: World) -> None:
    """A user whom the members removed after its headers were admitted calls no endpoint that writes."""

    @world.application.endpoint("POST /note", auth="user", mode="write")
    def note(state: State, body: dict[str, str]) -> None:
        state.put("notes", b"k", body["text"].encode())

    async def test(served: Served) -> None:
        def change(value: bytes | None) -> Any:
            def work(state: Any) -> Result:
                if value is None:
                    state.remove(tables.USER_CERTIFICATES, NOBODY.id.encode())
                else:
                    state.put(tables.USER_CERTIFICATES, NOBODY.id.encode(), value)
                return Result(None)

            return served.node.engine.write(work)

        async def remove() -> None:
            await change(None)

        await change(NOBODY.pem.encode())
        headers = {"content-type": "application/json"}
        body = {"text": "early"}
        answer = await served.ask("POST", "/app/note", NOBODY, version=False, json=body)
        assert answer.status_code == 204, answer.text
        late = _late(b'{"text": "late"}', remove)
        answer = await served.ask("POST", "/app/note", NOBODY, version=False, content=late, headers=headers)
        assert answer.status_code == 401, answer.text
        assert served.node.ledger.store.begin().get("notes", b"k") == b"early"

    run(world, test)


@pytest.mark.parametrize("form", ["claims", "snapshot", "statement"])
def test_a_statement_is_no_receipt_of_an_entry(world: World, form: str) -> None:
    """Who may only choose an application's statement gets no receipt of contents, or of a snapshot."""

    @world.application.endpoint("POST /state/{octets}", auth="user", mode="write")
    def state_(state: State, octets: str) -> None:
        state.put("statements", b"k", octets.encode())
        state.claim(bytes.fromhex(octets))

    secret, contents = bytes(32), '{"from": "bank1", "to": "mallory", "amount": 1000000}'
    forged = sha256(claims.LEDGER_ENTRY.encode() + claims.entry_digest("subledger:0", contents, secret))
    header = bytes((1, 0)) + (40).to_bytes(6, "little")
    statement, status = {
        "claims": ((1).to_bytes(4, "little") + forged, 400),
        "snapshot": (header + bytes(40), 400),
        "statement": (forged, 204),
    }[form]

    async def test(served: Served) -> None:
        def work(state: Any) -> Result:
            state.put(tables.USER_CERTIFICATES, NOBODY.id.encode(), NOBODY.pem.encode())
            return Result(None)

        await served.node.engine.write(work)
        answer = await served.ask("POST", f"/app/state/{statement.hex()}", NOBODY, version=False)
        assert answer.status_code == status, answer.text
        if status == 400:
            assert served.node.ledger.store.begin().get("statements", b"k") is None
            return
        receipt = await served.ask(
            "GET",
            f"/app/receipt?transaction_id={answer.headers['x-ms-ccf-transaction-id']}",
            None,
            version=False,
        )
        service = x509.load_pem_x509_certificate(served.node.service.certificate.encode())
        read = Receipt.parse(receipt.content, "receipt")
        receipts.verify(read, service, claims_digest=sha256(statement))
        entry: Json = {
            "collectionId": "subledger:0",
            "contents": contents,
            "protocol": claims.LEDGER_ENTRY,
            "secretKey": b64.encode(secret),
        }
        digest = claims.read([{"kind": "LedgerEntry", "ledgerEntry": entry}], "claims")
        with pytest.raises(AuthenticityError):
            receipts.verify(read, service, claims_digest=digest)

    run(world, test)


def test_the_last_administrator_stays(world: World) -> None:
    """Whatever the form of its id, and by whichever path."""

    async def test(served: Served) -> None:
        for name in (ADMIN.user, ADMIN.user.lower(), ADMIN.id, ADMIN.id.upper(), quote(ADMIN.user, safe="")):
            for path in (f"/app/users/{name}", f"/app/ledgerUsers/{name}"):
                answer = await served.ask("DELETE", path, ADMIN)
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "LastAdministrator")
            answer = await served.ask("PATCH", f"/app/users/{name}", ADMIN, json={"assignedRole": "Reader"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "LastAdministrator")
            answer = await served.ask(
                "PATCH", f"/app/ledgerUsers/{name}", ADMIN, json={"assignedRoles": ["Contributor"]}
            )
            assert answer.status_code == 400

    run(world, test)


TABLES = [
    "public:ccf.gov.members.info",
    "app.users",
    "public:app.users",
    "../app.users",
    "a'; --",
    "%00",
    "\x00",
]


@pytest.mark.parametrize("collection", TABLES)
def test_a_collection_is_no_table(world: World, collection: str) -> None:
    """A collection's id is a key: it reaches no table of governance or of users."""

    async def test(served: Served) -> None:
        query = f"collectionId={quote(collection, safe='')}"
        before = (await served.ask("GET", "/app/users", ADMIN)).text
        answer = await served.ask("GET", f"/app/transactions/current?{query}", READER)
        assert answer.status_code in (400, 404), answer.text
        answer = await served.ask("POST", f"/app/transactions?{query}", json={"contents": "x"})
        assert answer.status_code == (400 if collection == "\x00" else 200)
        assert (await served.ask("GET", "/app/users", ADMIN)).text == before
        assert not served.node.ledger.store.begin().has("public:ccf.gov.members.info", b"x")
        for seqno in (1, 2):
            got = await served.ask(
                "GET", f"/app/transactions/{served.node.engine.sequencer.view}.{seqno}?{query}"
            )
            assert got.status_code == 404, got.text

    run(world, test)


PATHS = [
    "/app/transactions/2.1%2F..%2Fusers", "/app/transactions/2.1%00", "/app/transactions/2.1%252Freceipt",
    "/app/transactions/%2e%2e/users", "/app//users", "/app/users//", "/app/./users",
    "/app/transactions/2.1;x", "/app/transactions/2.99999999999999999999",
    "/app/transactions/02.1", "/app/transactions/2.1.1", "/app/transactions/-2.1",
    "/app/transactions/\N{ARABIC-INDIC DIGIT TWO}.1", "/app%2Fusers", "/APP/USERS",
    "/app/ledgerUsers/..%2f..",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_tricks_in_paths_reach_nothing(world: World, path: str) -> None:
    """No other operation than the one that was checked, and no failure of the service."""

    async def test(served: Served) -> None:
        for who in (READER, NOBODY, None):
            answer = await served.ask("GET", path, who)
            assert answer.status_code in (400, 401, 403, 404), (path, answer.text)

    run(world, test)


@pytest.mark.parametrize(
    "query",
    ["", "api-version=", "api-version=9999-01-01", "API-VERSION=2026-02-23", "api-version=2026-02-23%00"],
)
def test_no_version_is_a_way_around_the_gate(world: World, query: str) -> None:
    """A stranger is refused before the version is looked at."""

    async def test(served: Served) -> None:
        answer = await served.ask("GET", f"/app/users?{query}", NOBODY, version=False)
        assert answer.status_code == 403
        answer = await served.ask("GET", f"/app/users?{query}", ADMIN, version=False)
        assert answer.status_code == 400

    run(world, test)


def test_two_tokens_in_one_request_are_no_token(world: World) -> None:
    """Which of two headers counts is not left to chance: neither does."""

    async def test(served: Served) -> None:
        good = _bearer(oid=OID)["authorization"]
        for pair in ((good, "Bearer a.b.c"), ("Bearer a.b.c", good)):
            headers = [("authorization", one) for one in pair]
            answer = await served.ask("GET", "/app/transactions", None, headers=headers)
            assert answer.status_code in (400, 401), answer.text

    run(world, test)
