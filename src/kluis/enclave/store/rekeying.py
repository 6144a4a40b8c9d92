"""Re-keying: every record is sealed anew under a fresh key, and the old key opens nothing that is taken.

The host gathers what is sealed anew beside the store, and puts it in the store's place in one transaction
of its database, with the sealed copy of the fresh key and without any of the old one: a crash leaves the
store as it was, or as it is to be. It does so only if nobody committed meanwhile, as for every commit.

The new store goes on at the epoch after the old one's, with an empty journal. It holds the public name of
each key that it had: whoever opens it tells their platform's counter of that store that it is over, so that
an old copy of the records, with an old copy of the key, is a store that was set back.
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
    """A store as its host has it beside the old one.

    Attributes:
        epoch: of it.
        head: sealed.
        chain: at that epoch.
        size: how many records it has.
    """

    epoch: int
    head: bytes
    chain: bytes
    size: int


def copy(records: Rekeys, view: View, old: Cipher, fresh: Cipher) -> Moved:
    """Have the host gather every record, sealed under another key.

    Args:
        records: the host's side.
        view: of the store as it is.
        old: its key's.
        fresh: the other key's.

    Raises:
        AuthenticityError: the host is found out.
        UnavailableError: it gives nothing, or somebody writes meanwhile.
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
    """Every record with its index, and at the end the name of the key that is given up."""
    for at in range(0, len(listed), MAX_IDS):
        page = listed[at : at + MAX_IDS]
        values, _ = view.read([name for name, _ in page])
        for name, held in page:
            if name not in values:
                raise UnavailableError(
                    "store: another instance writes meanwhile",
                    hint="stop every other instance, and try again",
                    code="store_busy",
                )
            yield name, held.index, values.pop(name)
    yield Name(FORMER_KEYS, old.name().hex()), "", b""
