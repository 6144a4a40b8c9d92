"""Create, import, show, list and change keys.

Material is generated before the transaction, because a transaction may run twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from kluis.enclave.store.model import Writing
from kluis.frozen import frozen
from kluis.services.keyvault.crypto import material, usage
from kluis.services.keyvault.crypto.material import Material
from kluis.services.keyvault.faults import BadParameter, Conflict, KeyNotFound
from kluis.services.keyvault.keys.rules import (
    check_exportable,
    check_still_exportable,
    checked_tags,
    checked_times,
    release_rule,
)
from kluis.services.keyvault.names import LATEST, check_name, check_version
from kluis.services.keyvault.requests import Attributes, Create, Import, Update
from kluis.services.keyvault.vault import audit, keys, purging, schedule
from kluis.services.keyvault.vault.records import KeyRecord, KeyVersion
from kluis.services.keyvault.vault.vault import Vault

_NONE: Final = Attributes()


@frozen
class Keys:
    """All operations on keys, except their use.

    Attributes:
        vault: that has them.
    """

    vault: Vault

    def create(self, name: str, request: Create, now: int, subject: str) -> tuple[KeyRecord, KeyVersion]:
        """Create a key, or a new version of one.

        Raises:
            BadParameter: an invalid request.
            Conflict: the name is deleted and recoverable.
        """
        check_name(name)
        if request.attributes is not None and request.attributes.external_key is not None:
            raise BadParameter("attributes.external_key: want none, for no other HSM is here, got one")
        if request.kty is None:
            raise BadParameter("kty: want one, got none")
        kty = material.azure_type(request.kty)
        draft = Draft(kty, request.key_ops, request.attributes or _NONE, request.tags, request)
        # Check first what would be refused, because generating a key takes long.
        keys.existing(self.vault.storage, name, now)
        draft.check()
        made = material.generate(
            kty, size=request.key_size, crv=request.crv, exponent=request.public_exponent
        )
        return self._add(name, draft, made, now, subject)

    def bring(self, name: str, request: Import, now: int, subject: str) -> tuple[KeyRecord, KeyVersion]:
        """Import a client's key.

        Raises:
            BadParameter: not a private key, or an invalid request.
            Conflict: the name is deleted and recoverable.
        """
        check_name(name)
        if request.key is None:
            raise BadParameter("key: want a JSON Web Key, got none")
        made = material.import_jwk(request.key)
        kty = material.azure_type(str(request.key.get("kty")))
        if request.hsm and not material.is_hardware(kty):
            kty = f"{kty}-HSM"
        operations = request.key.get("key_ops")
        if operations is not None and not _texts(operations):
            raise BadParameter("key.key_ops: want a list of text, got another")
        draft = Draft(kty, operations, request.attributes or _NONE, request.tags, request)
        draft.check()
        return self._add(name, draft, made, now, subject)

    def get(self, name: str, version: str, now: int) -> tuple[KeyRecord, KeyVersion]:
        """One version of a key; "" is the latest.

        Raises:
            KeyNotFound: it does not exist.
        """
        record = keys.demand(self.vault.storage, check_name(name), now)
        return record, keys.version(self.vault.storage, record, check_version(version))

    def update(
        self, name: str, version: str, request: Update, now: int, subject: str
    ) -> tuple[KeyRecord, KeyVersion]:
        """Change what may change; members that are not named stay unchanged.

        Raises:
            KeyNotFound: it does not exist.
            BadParameter: a member that cannot change, or an immutable release policy.
        """
        check_name(name)
        wanted = check_version(version)
        if request.release_policy is not None and wanted != LATEST:
            raise BadParameter("AKV.SKR.1016: Key Release Policy can only be set on versionless key")

        def work(writing: Writing) -> tuple[KeyRecord, KeyVersion]:
            record = keys.demand(writing, name, now)
            before = keys.version(writing, record, wanted)
            after = _change(before, request, now)
            if msgspec.structs.replace(after, updated=before.updated) != before:
                audit.append(writing, audit.Event("update", record.name, after.id, subject, now))
            if request.release_policy is not None:
                if not record.current.exportable:
                    raise BadParameter("AKV.SKR.1005: Non-exportable keys must not have release policy.")
                rule = release_rule(request.release_policy, record.release, self.vault.epoch)
                if rule != record.release:
                    audit.append(writing, audit.Event("policy", record.name, after.id, subject, now))
                record = msgspec.structs.replace(record, release=rule)
            if after.id != record.current.id:
                keys.keep_version(writing, record, after)
            else:
                record = msgspec.structs.replace(record, current=after)
                keys.keep(writing, record)
            return record, after

        return self.vault.storage.update(work)

    def again(self, name: str, now: int, subject: str) -> tuple[KeyRecord, KeyVersion]:
        """Create a new version like the latest: same type, size, operations, tags and release policy.

        Raises:
            KeyNotFound: it does not exist.
            Conflict: the latest version now has another type or size.
        """
        record = keys.demand(self.vault.storage, check_name(name), now)
        change = self._again(record, now, "rotate", subject, lambda last: _shape(last) == _shape(record))
        return change.record, change.record.current

    def again_if_due(self, name: str, now: int) -> int | None:
        """Rotate a key automatically, if its policy requires it by ``now``.

        If several processes try at once, the first one rotates it; the others find that it is not due.

        Returns:
            The number of its entry in the record; None if it was not due.
        """
        record = keys.find(self.vault.storage, name, now)
        if record is None or not _is_due(record, now):
            return None
        shape = _shape(record)

        def still(last: KeyRecord) -> bool:
            return _is_due(last, now) and _shape(last) == shape

        try:
            return self._again(record, now, "auto-rotate", "", still).sequence
        except (Conflict, KeyNotFound):
            return None

    def _again(
        self, record: KeyRecord, now: int, event: str, subject: str, still: Callable[[KeyRecord], bool]
    ) -> _Kept:
        old = record.current
        made = material.another(old)

        def turn(before: KeyRecord | None) -> KeyRecord:
            if before is None:
                raise KeyNotFound(record.name)
            if not still(before):
                raise Conflict(f"Key {before.name} was changed meanwhile.")
            last, rule = before.current, before.rotation
            life = None if rule is None or rule.expiry is None else schedule.seconds(rule.expiry, "expiry")
            fresh = _version(
                last.kty, made, last.key_ops, now, exportable=last.exportable, tags=last.tags,
                exp=None if life is None else now + life,
            )  # fmt: skip
            return msgspec.structs.replace(before, current=fresh)

        return self._keep(record.name, turn, now, event, subject)

    def _add(
        self, name: str, draft: Draft, made: Material, now: int, subject: str
    ) -> tuple[KeyRecord, KeyVersion]:
        attributes, ops = draft.attributes, draft.operations()

        def turn(before: KeyRecord | None) -> KeyRecord:
            exportable = check_exportable(draft.kty, attributes, draft.asked.release_policy, before)
            former = None if before is None else before.release
            rule = release_rule(draft.asked.release_policy, former, self.vault.epoch)
            fresh = _version(
                draft.kty, made, ops, now, exportable=exportable, tags=checked_tags(draft.tags),
                exp=attributes.exp, nbf=attributes.nbf, enabled=attributes.enabled is not False,
            )  # fmt: skip
            if before is None:
                return KeyRecord(name=name, current=fresh, release=rule)
            return msgspec.structs.replace(before, current=fresh, release=rule)

        event = "create" if isinstance(draft.asked, Create) else "import"
        change = self._keep(name, turn, now, event, subject)
        return change.record, change.record.current

    def _keep(
        self, name: str, turn: Callable[[KeyRecord | None], KeyRecord], now: int, event: str, subject: str
    ) -> _Kept:
        def work(writing: Writing) -> _Kept:
            before = keys.existing(writing, name, now)
            if before is None and keys.any_record(writing, name) is not None:
                raise purging.busy(name)
            after = turn(before)
            sequence = audit.append(writing, audit.Event(event, after.name, after.current.id, subject, now))
            if before is not None and after.release != before.release:
                # It applies to every existing version, too.
                audit.append(writing, audit.Event("policy", after.name, after.current.id, subject, now))
            keys.keep(writing, after, instead_of=before)
            return _Kept(after, sequence)

        # The remains of a key whose purge time has come.
        purging.clear(self.vault.storage, name, now)
        return self.vault.storage.update(work)


class _Kept(NamedTuple):
    """A key as it is now, and the number of its entry in the record."""

    record: KeyRecord
    sequence: int


@frozen
class Draft:
    """A requested version."""

    kty: str
    ops: list[str] | None
    attributes: Attributes
    tags: dict[str, str] | None
    asked: Create | Import

    def operations(self) -> tuple[str, ...]:
        """Its operations."""
        family = material.family(self.kty)
        return (
            usage.default_operations(family) if self.ops is None else usage.check_operations(family, self.ops)
        )

    def check(self) -> None:
        """Check everything that does not need the store."""
        self.operations()
        checked_tags(self.tags)
        checked_times(self.attributes.nbf, self.attributes.exp)


def _is_due(record: KeyRecord, now: int) -> bool:
    at = schedule.rotate_at(record)
    return at is not None and at <= now


def _shape(record: KeyRecord) -> tuple[str, int, str | None]:
    """The properties that another version's material must have."""
    return record.current.kty, record.current.size, record.current.public.get("crv")


def _version(
    kty: str, made: Material, ops: tuple[str, ...], now: int, *, exportable: bool, tags: dict[str, str],
    exp: int | None, nbf: int | None = None, enabled: bool = True,
) -> KeyVersion:  # fmt: skip
    return KeyVersion(
        id=secrets.token_hex(16),
        kty=kty,
        secret=made.secret,
        public=made.public,
        size=made.size,
        key_ops=ops,
        created=now,
        updated=now,
        enabled=enabled,
        nbf=nbf,
        exp=exp,
        exportable=exportable,
        tags=tags,
    )


def _change(before: KeyVersion, request: Update, now: int) -> KeyVersion:
    attributes = request.attributes or _NONE
    check_still_exportable(before.exportable, attributes.exportable)
    nbf = before.nbf if attributes.nbf is None else attributes.nbf
    exp = before.exp if attributes.exp is None else attributes.exp
    checked_times(nbf, exp)
    family = material.family(before.kty)
    return msgspec.structs.replace(
        before,
        key_ops=before.key_ops
        if request.key_ops is None
        else usage.check_operations(family, request.key_ops),
        tags=before.tags if request.tags is None else checked_tags(request.tags),
        enabled=before.enabled if attributes.enabled is None else attributes.enabled,
        nbf=nbf,
        exp=exp,
        updated=now,
    )


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
