"""Azure's entries: written, read back, listed and proven."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from cryptography import x509

from kluis.errors import AuthenticityError
from kluis.formats.ccf.cose_receipt import CoseReceipt
from kluis.formats.ccf.receipt import Receipt
from kluis.ledger import claims, receipts
from kluis.ledger.audit import Check, Source, audit
from kluis.ledger.secrets import Secrets
from kluis.serve.ledger.log import LedgerLog
from kluis.services.ledger.tables import Stored
from tests.services.ledger.world import NOBODY, READER, WRITER, Served, World, run

TRANSACTIONS = "/app/transactions"


def test_a_stored_entry_does_not_show_itself() -> None:
    """Its contents are private, and its secret key hides them in the claim's digest."""
    assert repr(Stored("PRIVATE", "SECRET", ("a",))) == "Stored(tags=('a',))"


def test_what_is_written_is_read_and_committed(world: World) -> None:
    """The answer to a write comes after its commit, with the transaction's id."""

    async def test(served: Served) -> None:
        txid = await served.write("Hello world")
        status = await served.ask("GET", f"{TRANSACTIONS}/{txid}/status")
        assert status.json() == {"state": "Committed", "transactionId": txid}
        entry = (await served.ask("GET", f"{TRANSACTIONS}/{txid}")).json()
        assert entry == {
            "state": "Ready",
            "entry": {"contents": "Hello world", "collectionId": "subledger:0", "transactionId": txid},
        }
        current = (await served.ask("GET", f"{TRANSACTIONS}/current", READER)).json()
        assert current["contents"] == "Hello world"
        assert served.node.ledger.committed.seqno >= int(txid.partition(".")[2])

    run(world, test)


def test_a_receipt_is_ready_with_the_answer_and_verifies(world: World) -> None:
    """With its claims, under the service's certificate; as JSON and as COSE, and not with other claims."""

    async def test(served: Served) -> None:
        txid = await served.write("Hello world")
        answer = (await served.ask("GET", f"{TRANSACTIONS}/{txid}/receipt")).json()
        service = x509.load_pem_x509_certificate(served.node.service.certificate.encode())
        digest = claims.read(answer["applicationClaims"], "claims")
        receipt = Receipt.of(answer["receipt"], "receipt")
        receipts.verify(receipt, service, claims_digest=digest)
        answer["applicationClaims"][0]["ledgerEntry"]["contents"] = "Goodbye"
        with pytest.raises(AuthenticityError, match="want claims digest"):
            receipts.verify(
                receipt, service, claims_digest=claims.read(answer["applicationClaims"], "claims")
            )
        path = f"/receipt?transaction_id={txid}"
        ccf = await served.ask("GET", f"/app{path}", None, version=False)
        assert Receipt.parse(ccf.content, "receipt").components == receipt.components
        cose = await served.ask("GET", f"/node/receipt/cose?transaction_id={txid}", None, version=False)
        assert cose.headers["content-type"] == "application/cose"
        key = service.public_key()
        receipts.verify_cose(CoseReceipt.parse(cose.content, "receipt"), key, claims_digest=digest)  # type: ignore[arg-type] # P-384

    run(world, test)


def test_wait_for_commit_gives_receipt_and_claims_with_the_answer(world: World) -> None:
    """Only in the newest preview; others pass the parameter over."""

    async def test(served: Served) -> None:
        body, query = {"contents": "now"}, "waitForCommit=true&api-version="
        newest = await served.ask(
            "POST", f"{TRANSACTIONS}?{query}2026-07-31-preview", json=body, version=False
        )
        assert newest.json()["state"] == "Committed"
        assert set(newest.json()) == {"collectionId", "state", "receipt", "applicationClaims"}
        stable = await served.ask("POST", f"{TRANSACTIONS}?{query}2026-02-23", json=body, version=False)
        assert stable.json() == {"collectionId": "subledger:0"}

    run(world, test)


def test_lists_are_of_one_collection_in_order_and_in_pages(world: World) -> None:
    """A range is inclusive at both ends; a page names the next one, and a tag finds only its entries."""

    async def test(served: Served) -> None:
        wrote = [
            await served.write(
                str(number), f"collectionId=c{number % 2}&tags={'odd' if number % 2 else 'even'}"
            )
            for number in range(210)
        ]
        path, found, pages = f"{TRANSACTIONS}?collectionId=c1", [], 0
        while path:
            page = (await served.ask("GET", path, version="api-version" not in path)).json()
            found += [one["contents"] for one in page["entries"]]
            path, pages = page.get("nextLink", ""), pages + 1
        assert found == [str(number) for number in range(1, 210, 2)]
        assert pages == 2
        ranged = f"{TRANSACTIONS}?collectionId=c0&fromTransactionId={wrote[4]}&toTransactionId={wrote[8]}"
        page = (await served.ask("GET", ranged)).json()
        assert [one["transactionId"] for one in page["entries"]] == wrote[4:9:2]
        assert not (await served.ask("GET", f"{TRANSACTIONS}?collectionId=c0&tag=odd")).json()["entries"]
        collections = (await served.ask("GET", "/app/collections")).json()
        assert collections == {"collections": [{"collectionId": "c0"}, {"collectionId": "c1"}]}
        assert (await served.ask("GET", "/app/collections/tags?collectionId=c0")).json() == {"tags": ["even"]}

    run(world, test)


def test_a_retry_of_a_request_is_the_same_entry(world: World) -> None:
    """Also at the same time, and after a restart; the same id with other contents is another entry."""
    header = {"x-ms-client-request-id": "4b1c0f6e-0000-4000-8000-000000000001"}
    ids: list[str] = []

    async def post(served: Served, contents: str) -> str:
        answer = await served.ask("POST", TRANSACTIONS, json={"contents": contents}, headers=header)
        assert answer.status_code == 200
        return answer.headers["x-ms-ccf-transaction-id"]

    async def first(served: Served) -> None:
        ids.extend(await asyncio.gather(*(post(served, "once") for _ in range(8))))

    async def second(served: Served) -> None:
        assert await post(served, "once") == ids[0]
        assert await post(served, "twice") != ids[0]
        listed = (await served.ask("GET", TRANSACTIONS)).json()["entries"]
        assert [one["contents"] for one in listed] == ["once", "twice"]

    run(world, first)
    assert len(set(ids)) == 1
    run(world, second)


def test_a_request_is_forgotten_after_ten_minutes(world: World) -> None:
    """The table of requests does not grow with the ledger."""

    async def test(served: Served) -> None:
        for number in range(6):
            header = {"x-ms-client-request-id": f"request-{number}"}
            await served.ask("POST", TRANSACTIONS, json={"contents": "x"}, headers=header)
            world.clock.pass_(601)
        assert len(served.node.ledger.index.requests) <= 2

    run(world, test)


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        ("", {"contents": "x" * 8193}, "EntrySizeCapacityExceeded"),
        ("", {"contents": "\u20ac" * 3000}, "EntrySizeCapacityExceeded"),
        (f"collectionId={'c' * 257}", {"contents": "x"}, "CollectionIdTooLong"),
        ("collectionId=", {"contents": "x"}, "InvalidCollectionId"),
        ("collectionId=a%00b", {"contents": "x"}, "InvalidCollectionId"),
        (f"tags={'t' * 65}", {"contents": "x"}, "InvalidTag"),
        ("tags=a,,b", {"contents": "x"}, "InvalidTag"),
        ("", {"contents": 7}, "InvalidInput"),
        ("", {}, "InvalidInput"),
        ("", {"contents": "x", "preHooks": [{"functionId": "f"}]}, "NotImplemented"),
    ],
)
def test_what_cannot_be_written_is_refused(world: World, query: str, body: object, code: str) -> None:
    """With a code, and nothing is written."""

    async def test(served: Served) -> None:
        before = served.node.ledger.committed
        answer = await served.ask("POST", f"{TRANSACTIONS}?{query}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert served.node.ledger.committed == before

    run(world, test)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("2.999999/status", 404, "TransactionPendingOrUnknown"),
        ("1.3/status", 404, "TransactionInvalid"),
        ("3.3", 404, "TransactionInvalid"),
        ("2.0", 404, "TransactionInvalid"),
        ("x", 400, "InvalidTransactionId"),
        ("2.3.4/receipt", 400, "InvalidTransactionId"),
        ("02.3/receipt", 400, "InvalidTransactionId"),
        ("2.99999999999999999999", 400, "InvalidTransactionId"),
        ("2.1", 404, "EntryNotFound"),
        ("2.1?collectionId=none", 404, "EntryNotFound"),
        ("current?collectionId=none", 404, "EntryNotFound"),
    ],
)
def test_ids_that_are_not_committed(world: World, path: str, status: int, code: str) -> None:
    """Pollers go on only where there may be an entry some day, and no evidence is given before a commit."""

    async def test(served: Served) -> None:
        answer = await served.ask("GET", f"{TRANSACTIONS}/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert "ce:" not in answer.text

    run(world, test)


@pytest.mark.parametrize(
    ("version", "status", "code"),
    [
        ("", 400, "MissingApiVersionParameter"),
        ("?api-version=2031-01-01", 400, "UnsupportedApiVersionValue"),
        ("?api-version=2022-05-13", 404, "ResourceNotFound"),
        ("?api-version=2024-12-09-preview", 404, "ResourceNotFound"),
        ("?api-version=2026-02-23", 200, ""),
        ("?api-version=2026-07-31-preview", 200, ""),
    ],
)
def test_each_version_has_what_came_with_it(world: World, version: str, status: int, code: str) -> None:
    """Tags are listed since 2026."""

    async def test(served: Served) -> None:
        answer = await served.ask("GET", f"/app/collections/tags{version}", version=False)
        assert (answer.status_code, answer.json().get("error", {}).get("code", "")) == (status, code)

    run(world, test)


class Heard:
    """A host's log, and all that the node sends to it."""

    def __init__(self, log: LedgerLog) -> None:
        self.log, self.sent = log, b""
        self.head, self.read, self.read_each = log.head, log.read, log.read_each

    def append(self, previous: bytes, batch: bytes) -> str:
        """As the log's."""
        self.sent += previous + batch
        return self.log.append(previous, batch)


def test_contents_cross_no_boundary_in_plain(world: World) -> None:
    """What a node sends to its host has no contents of a private ledger, nor what hides them in a claim."""
    secret = "a marker of thirty-two characters"

    async def whole() -> None:
        with LedgerLog(world.folder) as log:
            heard = Heard(log)
            async with world.serving(heard) as served:
                txid = await served.write(secret, "tags=a-tag-of-its-own")
                answer = (await served.ask("GET", f"{TRANSACTIONS}/{txid}/receipt")).json()
                (claim,) = answer["applicationClaims"]
                assert claim["ledgerEntry"]["contents"] == secret
                for planted in (secret, "a-tag-of-its-own", claim["ledgerEntry"]["secretKey"]):
                    assert planted.encode() not in heard.sent
                    assert base64.b64encode(planted.encode())[:-4] not in heard.sent
                assert len(heard.sent) > 1000

    asyncio.run(whole())


def test_contents_are_in_no_file(world: World) -> None:
    """Of a private ledger; those of a public one are readable in its files, and both list their entries."""
    secret = "a marker of thirty-two characters"

    async def test(served: Served) -> None:
        await served.write(secret)
        assert (await served.ask("GET", TRANSACTIONS)).json()["entries"][0]["contents"] == secret

    run(world, test)
    shown = b"".join(path.read_bytes() for path in world.folder.iterdir())
    assert secret.encode() not in shown
    public = World(world.folder.with_name("public"), settings={"public": True})
    run(public, test)
    assert secret.encode() in b"".join(path.read_bytes() for path in public.folder.iterdir())


def test_an_auditor_finds_what_users_wrote_under_its_claims(world: World) -> None:
    """With the ledger's secrets each entry's contents have the digest that its receipt proves."""
    secrets: list[Secrets] = []

    async def test(served: Served) -> None:
        for number in range(3):
            await served.write(f"{number}", "tags=a" if number else "")
        secrets.append(served.node.ledger.secrets)

    run(world, test)
    sources = [Source(path.name, path.read_bytes) for path in world.folder.iterdir()]
    found = [one for one in audit(sources, secrets=secrets[0]).findings if one.check is Check.CLAIMS]
    assert [one.message for one in found] == ["0 snapshot digests, 3 digests of users' contents"]


def test_who_may_ask(world: World) -> None:
    """A reader does not write, an unknown certificate does nothing, and refusals name what was refused."""

    async def test(served: Served) -> None:
        body = json.dumps({"contents": "x"}).encode()
        for who, status, code in (
            (READER, 403, "NotAllowed"),
            (NOBODY, 403, "NotAllowed"),
            (None, 401, None),
        ):
            answer = await served.ask("POST", TRANSACTIONS, who, content=body)
            assert answer.status_code == status
            if code:
                assert answer.json()["error"]["message"] == "Not allowed to call POST /app/transactions"
            else:
                assert "Bearer" in answer.headers["www-authenticate"]
        assert (await served.ask("GET", TRANSACTIONS, READER)).status_code == 200
        assert (await served.ask("GET", TRANSACTIONS, NOBODY)).status_code == 403
        assert (await served.ask("GET", "/app/users", WRITER)).status_code == 403

    run(world, test)


def test_tags_that_are_there_are_no_new_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger with as many tags as it may have still takes entries with those."""
    monkeypatch.setattr("kluis.services.ledger.azure.entries.MOST_TAGS", 2)

    async def test(served: Served) -> None:
        assert await served.write("one", "tags=a,b")
        assert await served.write("two", "tags=b,a")
        for query in ("tags=a,c", "tags=a&collectionId=other"):
            refused = await served.ask("POST", f"{TRANSACTIONS}?{query}", json={"contents": "three"})
            assert refused.json()["error"]["code"] == "TagCapacityExceeded"

    run(world, test)


def test_receipts_of_one_batch_read_its_signature_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads its entry, and no more of the log than it needs; one signature is remembered."""
    monkeypatch.setattr("kluis.services.ledger.running.receipts.MOST_SIGNATURES", 1)

    async def test(served: Served) -> None:
        node, log = served.node, served.node._around.log._log
        read, sizes = log.read, []

        def counted(first: int, most: int) -> bytes:
            sizes.append(len(found := read(first, most)))
            return found

        monkeypatch.setattr(log, "read", counted)
        ids = await asyncio.gather(*(served.write(f"{number} {'x' * 2000}") for number in range(30)))
        fresh = (await served.ask("GET", f"{TRANSACTIONS}/{ids[-1]}/receipt")).json()
        assert not sizes  # the last batch is still there, with its signatures
        assert not node.ledger.signed
        await served.write("after them")
        assert (await served.ask("GET", f"{TRANSACTIONS}/{ids[-1]}/receipt")).json() == fresh
        sizes.clear()
        node.ledger.signed.clear()
        for txid in ids:
            receipt = await served.ask("GET", f"{TRANSACTIONS}/{txid}/receipt")
            service = x509.load_pem_x509_certificate(node.service.certificate.encode())
            receipts.verify(Receipt.of(receipt.json()["receipt"], "receipt"), service)
        batches = {node.ledger.signature_after(int(txid.partition(".")[2])) for txid in ids}
        assert len(ids) <= len(sizes) <= len(ids) + len(batches)
        assert max(sizes) < 10_000
        assert len(node.ledger.signed) == 1

    run(world, test)
