"""Re-keying: seal every record under a fresh key, after which the old key opens no current data.

The host collects the re-sealed records alongside the store, and replaces the store in one transaction of its
database, with the sealed copy of the fresh key and without those of the old one. After a crash the store is
either unchanged or completely re-keyed. The replacement only succeeds if nobody committed meanwhile, as for
every commit.

The new store continues at the epoch after the old one's, with an empty journal. It contains the public name
of each key that it had. Every instance that opens it marks that store as ended in its platform's counter, so
an old copy of the records, with an old copy of the key, is detected as a rollback.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from kluis.enclave.store.cipher import GENESIS, Cipher, HeadContent, Label, make_version
from kluis.enclave.store.directory import Held, Name
from kluis.enclave.store.host import ask_host
from kluis.enclave.store.records import MAX_IDS, Rekeys, StorePut
from kluis.enclave.store.transaction import FORMER_KEYS
from kluis.enclave.store.view import View
from kluis.errors import UnavailableError

BATCH_BYTES: Final = 4 << 20


class Moved(NamedTuple):
    """A re-keyed store that the host has alongside the old one.

    Attributes:
        epoch: of the new store.
        head: sealed.
        chain: at that epoch.
        size: number of records.
    """

    epoch: int
    head: bytes
    chain: bytes
    size: int


def copy(records: Rekeys, view: View, old: Cipher, fresh: Cipher) -> Moved:
    """Have the host collect every record, sealed under another key.

    Args:
        records: the host's side.
        view: of the current store.
        old: the current key's cipher.
        fresh: the other key's cipher.

    Raises:
        AuthenticityError: the host's answer is not authentic.
        UnavailableError: it does not answer, or another instance writes meanwhile.
    """
    view.ask([])
    with view.lock:
        epoch = view.directory.epoch + 1
        listed = view.directory.records()
    version = make_version(epoch)
    ask_host(records.rekey_begin)
    members = count = size = 0
    puts: list[StorePut] = []
    for name, index, value in _values(view, listed, old):
        record = fresh.id(*name)
        label = fresh.seal_label(record, version, Label(*name, index))
        puts.append(StorePut(record, label, fresh.seal_value(record, version, value)))
        members ^= fresh.member(record, version)
        count, size = count + 1, size + len(value)
        if size >= BATCH_BYTES or len(puts) == MAX_IDS:
            ask_host(records.rekey_put, version, puts)
            puts, size = [], 0
    ask_host(records.rekey_put, version, puts)
    chain = fresh.link(GENESIS, version)
    head = fresh.seal_head(epoch, HeadContent(members.to_bytes(32, "big"), chain))
    return Moved(epoch, head, chain, count)


def _values(view: View, listed: list[tuple[Name, Held]], old: Cipher) -> Iterator[tuple[Name, str, bytes]]:
    """Every record with its index, and at the end the name of the old key."""
    for at in range(0, len(listed), MAX_IDS):
        page = listed[at : at + MAX_IDS]
        values, _ = view.read([name for name, _ in page])
        for name, entry in page:
            if name not in values:
                raise UnavailableError(
                    "store: another instance writes meanwhile",
                    hint="stop every other instance, and try again",
                    code="store_busy",
                )
            yield name, entry.index, values.pop(name)
    yield Name(FORMER_KEYS, old.name().hex()), "", b""
