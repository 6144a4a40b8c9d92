"""Entries of Azure Confidential Ledger: written, listed, read back, and proven by receipts.

An answer to a write comes after its commit, so a receipt is ready with it, and no client ever sees Loading.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from kluis.errors import FormatError
from kluis.formats.ccf.domain import Writes
from kluis.formats.ccf.txid import HEADER, TxId
from kluis.hashes import sha256
from kluis.ledger import claims
from kluis.ledger.status import Status
from kluis.ledger.store import Transaction
from kluis.services.clock import Clock
from kluis.services.ledger.azure.versions import GA, NEWEST, PREVIEW, STABLE, at_least, operation
from kluis.services.ledger.callers import require_role
from kluis.services.ledger.node import Node
from kluis.services.ledger.running.engine import Result
from kluis.services.ledger.running.log import HostLog
from kluis.services.ledger.running.receipts import prove
from kluis.services.ledger.running.transactions import find_committed, parse_txid, read_many
from kluis.services.ledger.tables import ENTRIES, PUBLIC_ENTRIES, REQUESTS, Stored
from kluis.services.web import Answer, Call, Operation, Refusal

DEFAULT: Final = "subledger:0"
PAGE: Final = 100
COLLECTIONS_PAGE: Final = 1000
MOST_CONTENTS: Final = 8192
MOST_COLLECTION: Final = 256
MOST_COLLECTIONS: Final = 5000
MOST_TAG: Final = 64
MOST_TAGS: Final = 10_000
MOST_TAGS_OF_ENTRY: Final = 32
REMEMBERED_SECONDS: Final = 600
REQUEST_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


class Entry(msgspec.Struct):
    """What a client writes; members that the type does not have are passed over."""

    contents: str
    preHooks: list[Any] | None = None  # noqa: N815 - the API's own word
    postHooks: list[Any] | None = None  # noqa: N815 - the API's own word


class Entries:
    """The operations on entries.

    Args:
        node: the ledger's.
        log: the host's.
        clock: the host's word for the time.
    """

    def __init__(self, node: Node, log: HostLog, clock: Clock) -> None:
        self._node = node
        self._ledger = node.ledger
        self._log = log
        self._clock = clock

    def operations(self) -> tuple[Operation, ...]:
        """The operations."""
        one, many = "/app/transactions/{transactionId}", "/app/transactions"
        ranged = dict.fromkeys(("collectionId", "fromTransactionId", "toTransactionId", "tag"), False)
        writes = dict.fromkeys(("collectionId", "tags", "waitForCommit"), False)
        of, read = {"collectionId": False}, "/content/read"
        return (
            operation(
                "CreateLedgerEntry", "POST", many, STABLE, self.create, "/content/write", writes, body=Entry
            ),
            operation("ListLedgerEntries", "GET", many, STABLE, self.page, read, ranged),
            operation("GetCurrentLedgerEntry", "GET", f"{many}/current", STABLE, self.current, read, of),
            operation("GetLedgerEntry", "GET", one, STABLE, self.get, read, of),
            operation("GetReceipt", "GET", f"{one}/receipt", STABLE, self.receipt, read),
            operation("GetTransactionStatus", "GET", f"{one}/status", STABLE, self.status, read),
            operation(
                "ListCollections", "GET", "/app/collections", STABLE, self.collections, read, {"skip": False}
            ),
            operation("ListTags", "GET", "/app/collections/tags", GA, self.tags, read, {**of, "skip": False}),
        )

    async def create(self, call: Call) -> Answer:
        """Write an entry."""
        entry = call.json(Entry)
        if entry.preHooks or entry.postHooks:
            raise Refusal(
                400,
                "NotImplemented",
                "preHooks, postHooks: user-defined functions are not served by this ledger",
            )
        collection, tags = _collection(call), self._tags(call)
        size = len(entry.contents.encode())
        if size > MOST_CONTENTS:
            raise Refusal(
                400,
                "EntrySizeCapacityExceeded",
                f"Entry contents of {size} bytes exceed the limit of {MOST_CONTENTS} bytes.",
            )
        secret = os.urandom(32)
        value = msgspec.json.encode(Stored(entry.contents, base64.b64encode(secret).decode(), tags))
        digest = claims.entry_digest(collection, entry.contents, secret)
        request = self._request(call, collection, entry.contents, tags)

        def work(state: Transaction) -> Result:
            require_role(state, call.caller, "/content/write")
            if request is not None and (known := self._ledger.index.requests.get(request)) is not None:
                return Result(known)
            self._check_room(collection, tags)
            table = PUBLIC_ENTRIES if self._node.public else ENTRIES
            state.put(table, collection.encode(), value)
            if request is not None:
                self._remember(state, request)
            return Result(None, claims.claims_digest([(claims.LEDGER_ENTRY, digest)]))

        written = await self._node.engine.write(work)
        txid = written.txid
        if written.value is not None:
            txid = TxId(self._ledger.views.of(written.value), written.value)
        body: dict[str, Any] = {"collectionId": collection}
        if at_least(call, NEWEST) and _flag(call, "waitForCommit"):
            own = None if written.value is not None else (collection, value)
            body |= {"state": "Committed", **await self._receipt(txid, own)}
        return Answer(body, headers={HEADER: str(txid)})

    async def get(self, call: Call) -> Answer:
        """One entry, by the id of its transaction."""
        txid = find_committed(self._ledger, call.path["transactionId"])
        [(_, writes, _)] = await self._read([txid.seqno])
        entry = _find(writes, call.query.get("collectionId"))
        if entry is None:
            raise Refusal(404, "EntryNotFound", f"Transaction {txid} has no entry of this collection.")
        return Answer({"state": "Ready", "entry": _describe(txid, *entry)}, headers={HEADER: str(txid)})

    async def status(self, call: Call) -> Answer:
        """Whether a transaction is committed."""
        txid = parse_txid(call.path["transactionId"])
        state = self._ledger.status(txid)
        if state is not Status.PENDING or not txid.seqno:
            find_committed(self._ledger, str(txid))
        return Answer({"state": state.value, "transactionId": str(txid)})

    async def receipt(self, call: Call) -> Answer:
        """The receipt of an entry, with its claims."""
        txid = find_committed(self._ledger, call.path["transactionId"])
        made = await self._receipt(txid)
        return Answer({**made, "state": "Ready", "transactionId": str(txid)})

    async def current(self, call: Call) -> Answer:
        """The latest entry of a collection."""
        collection = _collection(call)

        def work(state: Transaction) -> bytes | None:
            key = collection.encode()
            return state.get(ENTRIES, key) or state.get(PUBLIC_ENTRIES, key)

        read = await self._node.engine.read(work)
        if read.value is None:
            raise Refusal(404, "EntryNotFound", f"Collection {collection[:200]!a} has no entry.")
        return Answer(_describe(read.txid, collection, read.value), headers={HEADER: str(read.txid)})

    async def page(self, call: Call) -> Answer:
        """The entries of a collection, in order, page by page."""
        collection, tag = _collection(call), call.query.get("tag")
        first = self._read_bound(call, "fromTransactionId", 1)
        last = min(self._read_bound(call, "toTransactionId", 1 << 62), self._ledger.committed.seqno)
        seqnos: list[int] = []
        following = None
        for seqno in self._ledger.index.find(collection, tag, first, last):
            if len(seqnos) == PAGE:
                following = seqno
                break
            seqnos.append(seqno)
        entries = []
        for seqno, writes, _ in await self._read(seqnos):
            value = _find(writes, collection)
            if value is not None:
                entries.append(_describe(TxId(self._ledger.views.of(seqno), seqno), *value))
        body: dict[str, Any] = {"state": "Ready", "entries": entries}
        if following is not None:
            begin = TxId(self._ledger.views.of(following), following)
            body["nextLink"] = _link(call, {"fromTransactionId": str(begin)})
        return Answer(body)

    async def collections(self, call: Call) -> Answer:
        """The ids of all collections."""
        listed = await self._node.engine.read(lambda _: self._ledger.index.collections())
        page, following = _page(call, listed.value)
        return Answer({"collections": [{"collectionId": one} for one in page], **following})

    async def tags(self, call: Call) -> Answer:
        """The tags of a collection."""
        collection = _collection(call)
        listed = await self._node.engine.read(lambda _: self._ledger.index.tags(collection))
        page, following = _page(call, listed.value)
        return Answer({"tags": page, **following})

    async def _receipt(self, txid: TxId, written: tuple[str, bytes] | None = None) -> dict[str, Any]:
        """A receipt, with the claim of what was just ``written``, or of what its entry holds."""
        proven = await prove(self._ledger, self._log, txid)
        made: dict[str, Any] = {"receipt": proven.receipt(self._ledger).to_azure()}
        if written is None and not proven.is_signature:
            written = _find(proven.writes(self._ledger), None)
        if written is not None:
            made["applicationClaims"] = [_claim(*written)]
        return made

    async def _read(self, seqnos: list[int]) -> list[tuple[int, Writes, Any]]:
        def read() -> list[tuple[int, Writes, Any]]:
            return list(read_many(self._ledger, self._log, seqnos))

        entries: list[tuple[int, Writes, Any]] = await self._node.engine.in_thread(read)
        return entries

    def _read_bound(self, call: Call, name: str, otherwise: int) -> int:
        text = call.query.get(name)
        if text is None:
            return otherwise
        txid = parse_txid(text, name)
        if self._ledger.status(txid) is Status.INVALID and txid.seqno:
            raise Refusal(404, "TransactionInvalid", f"{name}: transaction {txid} is not valid.")
        return txid.seqno

    def _tags(self, call: Call) -> tuple[str, ...]:
        text = call.query.get("tags", "")
        if not text or not at_least(call, PREVIEW):
            return ()
        tags = tuple(dict.fromkeys(one.strip() for one in text.split(",")))
        for tag in tags:
            if not 0 < len(tag) <= MOST_TAG:
                raise Refusal(
                    400, "InvalidTag", f"tags: want 1..{MOST_TAG} characters each, got {tag[:80]!a}"
                )
        if len(tags) > MOST_TAGS_OF_ENTRY:
            raise Refusal(
                400, "TagCapacityExceeded", f"tags: want at most {MOST_TAGS_OF_ENTRY}, got {len(tags)}"
            )
        return tags

    def _check_room(self, collection: str, tags: tuple[str, ...]) -> None:
        index = self._ledger.index
        if not index.has(collection) and index.count_collections() >= MOST_COLLECTIONS:
            raise Refusal(400, "CollectionCapacityExceeded", f"collections: want at most {MOST_COLLECTIONS}")
        if tags and index.count_tags() + index.new_tags(collection, tags) > MOST_TAGS:
            raise Refusal(400, "TagCapacityExceeded", f"tags: want at most {MOST_TAGS} in all")

    def _request(self, call: Call, collection: str, contents: str, tags: tuple[str, ...]) -> bytes | None:
        """What a retry of this request has in common with it, and no other request has."""
        text = call.headers.get("x-ms-client-request-id", "")
        if call.caller is None or REQUEST_ID.fullmatch(text) is None:
            return None
        encoded = msgspec.json.encode([call.caller.subject, text, collection, contents, *tags])
        return sha256(encoded)

    def _remember(self, state: Transaction, request: bytes) -> None:
        now = int(self._clock.now().timestamp())
        state.put(REQUESTS, request, str(now).encode())
        for old in [one for one, _ in zip(self._ledger.index.requests, range(2), strict=False)]:
            since_then = state.get(REQUESTS, old)
            if since_then is not None and int(since_then) < now - REMEMBERED_SECONDS:
                state.remove(REQUESTS, old)


def _collection(call: Call) -> str:
    collection = call.query.get("collectionId", DEFAULT)
    size = len(collection.encode("utf-8", "replace"))
    if size > MOST_COLLECTION:
        raise Refusal(
            400, "CollectionIdTooLong", f"collectionId: want at most {MOST_COLLECTION} bytes, got {size}"
        )
    if not collection or not collection.isprintable() or "\ufffd" in collection:
        raise Refusal(400, "InvalidCollectionId", f"collectionId: want printable text, got {collection!a}")
    return collection


def _flag(call: Call, name: str) -> bool:
    text = call.query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise Refusal(400, "InvalidQueryParameterValue", f"{name}: want true or false, got {text[:40]!a}")
    return text == "true"


def _find(writes: Writes, collection: str | None) -> tuple[str, bytes] | None:
    for table in (ENTRIES, PUBLIC_ENTRIES):
        for key, value in writes.get(table, {}).items():
            if value is not None and collection in (None, key.decode()):
                return key.decode(), value
    return None


def _describe(txid: TxId, collection: str, value: bytes) -> dict[str, str]:
    contents = Stored.read(value).contents
    return {"contents": contents, "collectionId": collection, "transactionId": str(txid)}


def _claim(collection: str, value: bytes) -> dict[str, Any]:
    stored = Stored.read(value)
    return {
        "kind": "LedgerEntry",
        "ledgerEntry": {
            "collectionId": collection,
            "contents": stored.contents,
            "protocol": claims.LEDGER_ENTRY,
            "secretKey": stored.secretKey,
        },
    }


def _page(call: Call, names: list[str]) -> tuple[list[str], dict[str, str]]:
    try:
        start = int(call.query.get("skip", "0"))
        if not 0 <= start <= 1 << 31:
            raise FormatError("skip")
    except (ValueError, FormatError):
        raise Refusal(400, "InvalidQueryParameterValue", "skip: want a number, 0 or more") from None
    page = names[start : start + COLLECTIONS_PAGE]
    more = start + COLLECTIONS_PAGE < len(names)
    return page, {"nextLink": _link(call, {"skip": str(start + COLLECTIONS_PAGE)})} if more else {}


def _link(call: Call, changed: Mapping[str, str]) -> str:
    query = {**call.query, **changed}
    return f"{call.target}?" + "&".join(f"{quote(name)}={quote(text)}" for name, text in query.items())
