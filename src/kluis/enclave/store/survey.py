"""Survey a store: how a new or outdated instance learns which records exist.

The host lists every record's id, version and label, page by page, while others may commit. Then the journal
from the first page on is applied, which corrects what changed meanwhile, and the resulting set hash must
equal the one in the sealed head. So a record that is hidden, added or rolled back is detected before anything
is served.
"""

from __future__ import annotations

from kluis.enclave.store.cipher import Cipher
from kluis.enclave.store.directory import Directory, Held, Name
from kluis.enclave.store.host import Host
from kluis.enclave.store.records import KEPT_EPOCHS, StoreAnswer
from kluis.enclave.store.witness import Witnessed
from kluis.errors import AuthenticityError, UnavailableError


def survey(host: Host, cipher: Cipher, witnessed: Witnessed | None) -> Directory:
    """Build the directory from a survey.

    1. The head opens under this store's key; there is none only if nothing was ever committed.
    2. Each record's label opens as its id and version; ids rise.
    3. The journal from the head on follows it.
    4. The resulting set hash and chain are the last head's.
    5. The witness's record belongs to this history, and is no later than the last head.

    Args:
        host: the host.
        cipher: has the store's key.
        witnessed: the witness's record from before the host was queried; None without one.

    Raises:
        AuthenticityError: the host rolled the store back, hides or changed something, or has another store.
        UnavailableError: it does not answer.
    """
    first = host.read([], -1)
    directory = _begin(cipher, first, witnessed)  # 1
    _collect(host, cipher, directory)  # 2
    last = _catch_up(host, directory, first)  # 3
    if last.epoch:  # 4
        head = cipher.open_head(last.epoch, last.head)
        if (head.records, head.chain) != (directory.members.to_bytes(32, "big"), directory.chain):
            raise AuthenticityError(
                f"store: records: are not those of epoch {last.epoch}, the last commit",
                hint="the host hides records, or gives older ones",
                code="store_records",
            )
    elif directory.members:
        raise AuthenticityError("store: records: want none before the first commit", code="store_records")
    if witnessed is not None:
        _descend(host, cipher, directory, witnessed, first.epoch)  # 5
    return directory


def _begin(cipher: Cipher, first: StoreAnswer, witnessed: Witnessed | None) -> Directory:
    if witnessed is not None and first.epoch < witnessed.epoch:
        raise set_back(witnessed.epoch, first.epoch)
    if first.epoch == 0:
        return Directory(cipher)
    return Directory(cipher, first.epoch, cipher.open_head(first.epoch, first.head).chain)


def _collect(host: Host, cipher: Cipher, directory: Directory) -> None:
    after = b""
    while labels := host.survey(after).labels:
        for one in labels:
            if one.id <= after:
                raise AuthenticityError("store: records: want rising ids", code="store_records")
            after = one.id
            label = cipher.open_label(one.id, one.version, one.label)
            directory.put(Name(label.table, label.key), one.id, Held(one.version, label.index))


def _catch_up(host: Host, directory: Directory, last: StoreAnswer) -> StoreAnswer:
    """Apply the journal to its end; the answer with the last entry contains its head."""
    while True:
        answer = host.read([], directory.epoch)
        if answer.epoch < last.epoch:
            raise set_back(last.epoch, answer.epoch)
        if answer.epoch == directory.epoch:
            return last
        follow(directory, answer, directory.epoch)
        last = answer


def _descend(host: Host, cipher: Cipher, directory: Directory, witnessed: Witnessed, surveyed: int) -> None:
    """Check that the witnessed commit is in the history of the surveyed head."""
    if witnessed.epoch == 0:
        return
    if witnessed.epoch < surveyed:
        if surveyed - witnessed.epoch >= KEPT_EPOCHS:
            return  # The journal between is pruned: only the witness's epoch can be held against the head.
        past = Directory(cipher, witnessed.epoch, witnessed.chain)
        while past.epoch < surveyed:
            follow(past, host.read([], past.epoch), past.epoch, surveyed)
        if past.chain == directory.chain_at(surveyed):
            return
    elif directory.chain_at(witnessed.epoch) == witnessed.chain:
        return
    raise forked_history(witnessed.epoch)


def follow(directory: Directory, answer: StoreAnswer, known: int, until: int | None = None) -> None:
    """Apply an answer's journal entries that the directory does not have yet.

    Args:
        directory: extended.
        answer: the host's.
        known: the epoch in the request.
        until: last epoch to apply; None: the answer's own.

    Raises:
        AuthenticityError: they do not follow, or the first is missing.
    """
    end = answer.epoch if until is None else min(until, answer.epoch)
    for epoch, entry in enumerate(answer.entries, known + 1):
        if directory.epoch < epoch <= end:
            directory.follow(entry)
    if directory.epoch == known and end - known >= KEPT_EPOCHS:
        raise UnavailableError(
            "store: others write faster than this instance can survey", hint="try again", code="store_busy"
        )
    if directory.epoch == known < end:
        raise AuthenticityError(
            f"store: journal entry {known + 1}: want one of {answer.epoch - known} newer ones, got none",
            hint="the host withholds its journal",
            code="store_history",
        )


def set_back(want: int, got: int) -> AuthenticityError:
    """The error if the host shows an epoch before a known one."""
    return AuthenticityError(
        f"store: last commit: want epoch {want} or later, got {got}",
        hint=(
            "the host rolled the store back, or withholds newer commits: restore the store's newest state;"
            " or, with an older backup of the store, the platform's state of the same time"
        ),
        code="store_rollback",
    )


def forked_history(epoch: int) -> AuthenticityError:
    """The error if the host shows another history than the witnessed one."""
    return AuthenticityError(
        f"store: commit {epoch}: is not the one that was witnessed",
        hint="the host shows its enclaves different histories",
        code="store_history",
    )
