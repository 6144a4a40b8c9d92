"""The HTTP handlers of the key service: call the engine, and build the responses."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from kluis.enclave.store.model import Writing
from kluis.formats import x509
from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.services.clock import Clock
from kluis.services.keyvault import paging, requests, views
from kluis.services.keyvault.access import allows
from kluis.services.keyvault.crypto.operations import Use
from kluis.services.keyvault.faults import BadParameter, Conflict, Forbidden
from kluis.services.keyvault.hosts import Hosts
from kluis.services.keyvault.keys import backup, rotation
from kluis.services.keyvault.keys.keys import Keys
from kluis.services.keyvault.keys.lifecycle import Lifecycle
from kluis.services.keyvault.names import LATEST, check_name, fold_case
from kluis.services.keyvault.release.engine import Releases
from kluis.services.keyvault.release.keyring import describe
from kluis.services.keyvault.release.signer import Signer
from kluis.services.keyvault.settings import Settings
from kluis.services.keyvault.vault import audit, keys
from kluis.services.keyvault.vault import trust as trusting
from kluis.services.keyvault.vault.records import KeyRecord, KeyVersion
from kluis.services.keyvault.vault.vault import Vault, differences, is_used
from kluis.services.web import Answer, Call

BEFORE_RELEASE: Final = re.compile(r"201\d-.*|[0-6]\..*|7\.[0-2](-preview.*)?", re.ASCII)
MOST_RANDOM: Final = 128
MOST_ENTRIES: Final = 100
STATEMENT: Final = "kluis-key-1"


@frozen
class Handlers:
    """The handlers of all operations.

    Attributes:
        settings: the operator's.
        vault: that has the keys.
        clock: returns the time.
        keys: creates, shows and changes them.
        lifecycle: deletes and recovers them.
        uses: uses them.
        releases: releases them.
        signer: of responses.
        hosts: the names of the vault for clients.
    """

    settings: Settings
    vault: Vault
    clock: Clock
    keys: Keys
    lifecycle: Lifecycle
    uses: Use
    releases: Releases
    signer: Signer
    hosts: Hosts

    def create(self, call: Call) -> Answer:
        """Create a key."""
        request = call.json(requests.Create)
        _releasable(call, request.attributes, request.release_policy)
        return self._bundle(call, *self.keys.create(call.path["name"], request, self._now(), _subject(call)))

    def bring(self, call: Call) -> Answer:
        """Import a key."""
        request = call.json(requests.Import)
        if request.hsm is None:
            request = msgspec.structs.replace(request, hsm=_hsm(call))
        _releasable(call, request.attributes, request.release_policy)
        return self._bundle(call, *self.keys.bring(call.path["name"], request, self._now(), _subject(call)))

    def get(self, call: Call) -> Answer:
        """Show a key's public half."""
        return self._bundle(call, *self.keys.get(call.path["name"], _version(call), self._now()))

    def update(self, call: Call) -> Answer:
        """Change a key."""
        request = call.json(requests.Update)
        _releasable(call, request.attributes, request.release_policy)
        if request.release_policy is not None and not allows(call.caller, "keys/releasepolicy/write"):
            raise Forbidden(
                "Caller is not authorized to perform action on resource: a release policy is changed by "
                "who may make keys.",
                "ForbiddenByRbac",
            )
        name, version = call.path["name"], _version(call)
        return self._bundle(call, *self.keys.update(name, version, request, self._now(), _subject(call)))

    def names(self, call: Call) -> Answer:
        """List keys."""
        return self._list_records(call, "/keys", self._names(call, "keys", deleted=False))

    def all_deleted(self, call: Call) -> Answer:
        """List deleted keys."""
        return self._list_records(call, "/deletedkeys", self._names(call, "deletedkeys", deleted=True))

    def versions(self, call: Call) -> Answer:
        """List a key's versions; empty for a key that does not exist, as on Azure."""
        name = check_name(call.path["name"])
        record = keys.find(self.vault.storage, name, self._now())
        if record is None or record.deleted is not None:
            paging.most_results(call.query)
            return self._page(call, f"/keys/{name}/versions", [], None)
        listing = f"versions of {fold_case(name)}"

        def every(after: str) -> Iterable[KeyVersion]:
            return keys.versions(self.vault.storage, record, after)

        page = paging.page(self.vault, listing, every, lambda one: one.id, call.query)
        items = [
            views.item(self._url(call), record, one, self.vault.rules, _api(call), versioned=True)
            for one in page.several
        ]
        return self._page(call, f"/keys/{record.name}/versions", items, page.token)

    def rotate(self, call: Call) -> Answer:
        """Create a new version."""
        return self._bundle(call, *self.keys.again(call.path["name"], self._now(), _subject(call)))

    def rotation_policy(self, call: Call) -> Answer:
        """Show a rotation policy."""
        record = keys.demand(self.vault.storage, check_name(call.path["name"]), self._now())
        return Answer(views.rotation_policy(self._url(call), record))

    def set_rotation_policy(self, call: Call) -> Answer:
        """Set a rotation policy."""
        request = call.json(requests.RotationPolicy)
        record = rotation.set_policy(self.vault, call.path["name"], request, self._now(), _subject(call))
        return Answer(views.rotation_policy(self._url(call), record))

    def back_up(self, call: Call) -> Answer:
        """Back up a key."""
        blob = backup.back_up(self.vault, call.path["name"], self._now(), _subject(call))
        return Answer({"value": b64.encode_url(blob)})

    def restore(self, call: Call) -> Answer:
        """Restore a backup."""
        value = call.json(requests.Backup).value
        record = backup.restore(self.vault, value, self._now(), _subject(call))
        return self._bundle(call, record, record.current)

    def delete(self, call: Call) -> Answer:
        """Delete a key."""
        record = self.lifecycle.delete(call.path["name"], self._now(), _subject(call))
        return self._bundle(call, record, record.current)

    def show_deleted(self, call: Call) -> Answer:
        """Show a deleted key."""
        record = self.lifecycle.get_deleted(call.path["name"], self._now())
        return self._bundle(call, record, record.current)

    def recover(self, call: Call) -> Answer:
        """Recover a deleted key."""
        record = self.lifecycle.recover(call.path["name"], self._now(), _subject(call))
        return self._bundle(call, record, record.current)

    def purge(self, call: Call) -> Answer:
        """Purge a key."""
        self.lifecycle.purge(call.path["name"], self._now(), _subject(call))
        return Answer(status=204)

    def use(self, verb: str) -> Callable[[Call], Answer]:
        """The handler of one way of using a key."""

        def handler(call: Call) -> Answer:
            request, url = call.json(requests.Operate), self._url(call)
            return Answer(self.uses.apply(verb, call.path["name"], _version(call), request, self._now(), url))

        return handler

    def release(self, call: Call) -> Answer:
        """Release a key."""
        if BEFORE_RELEASE.fullmatch(_api(call)):
            raise BadParameter(
                f"api-version: want 7.3-preview or a later one for release, got {call.version}"
            )
        value = self.releases.release(
            call.path["name"],
            _version(call),
            call.json(requests.Release),
            now=self.clock.now(),
            subject=_subject(call),
            url=self._url(call),
            api=_api(call),
        )
        return Answer({"value": value})

    def attestation(self, call: Call) -> Answer:
        """Sign this enclave's statement about a key.

        Azure's statement contains an HSM vendor's signature; there is none here. ``version`` identifies the
        kind of statement.
        """
        record, version = self.keys.get(call.path["name"], _version(call), self._now())
        made = views.bundle(self._url(call), record, version, self.vault.rules, _api(call))
        members = {
            "kid": made["key"]["kid"],
            "kty": version.kty,
            "key_ops": list(version.key_ops),
            "exportable": version.exportable,
            "iat": self._now(),
            **version.public,
        }
        statement = b64.encode_url(self.signer.state(members).encode())
        made["attributes"]["attestation"] = {
            "version": STATEMENT,
            "certificatePemFile": b64.encode_url(x509.write_pem(self.signer.own)),
            "publicKeyAttestation": statement,
            "privateKeyAttestation": statement,
        }
        return Answer(made)

    def random(self, call: Call) -> Answer:
        """Return random bytes."""
        count = call.json(requests.Random).count
        if count is None or not 1 <= count <= MOST_RANDOM:
            raise BadParameter(f"count: want 1 to {MOST_RANDOM}, got {count}")
        return Answer({"value": b64.encode_url(secrets.token_bytes(count))})

    def audit(self, call: Call) -> Answer:
        """Show the record of events on keys."""
        text = call.query.get("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise BadParameter(f"after: want an entry's number, got {text[:16]!a}")
        most = paging.most_results(call.query, MOST_ENTRIES)
        several = list(audit.entries(self.vault.storage, int(text), most))
        head = audit.head(self.vault.storage)
        body = {
            "vault": self.vault.name.hex(),
            "sequence": head.sequence,
            "hash": head.hash,
            "iat": self._now(),
        }
        return Answer({
            "value": several,
            "head": head,
            "statement": self.signer.state({"audit": body}),
            "rollback": self.vault.storage.rollback,
        })  # fmt: skip

    def configuration(self, call: Call) -> Answer:
        """Show this vault's configuration, over attested TLS, so that a client can check it against its own
        requirements.
        """
        issuer = self.settings.issuer
        following = trusting.read_approval(self.vault.storage)
        return Answer({
            "vault": self.vault.name.hex(),
            "authorities": [describe(each) for each in self.settings.authorities],
            "issuer": {
                "url": issuer.url,
                "audiences": list(issuer.audiences),
                "jwks": issuer.keys,
                "insecureChanging": self.settings.insecure_changing_issuer,
            },
            "recoverableDays": self.vault.rules.recoverable_days,
            "purgeProtection": self.vault.rules.purge_protection,
            "rollback": self.vault.storage.rollback,
            "created": self.vault.identity.created,
            "trust": self.vault.identity.trust.digest,
            "earlier": [each.digest for each in self.vault.identity.earlier],
            "next": None if following is None else following.trust.digest,
            "signingCertificate": b64.encode(self.signer.own),
        })  # fmt: skip

    def approve(self, call: Call) -> Answer:
        """Approve another set for the vault's next start; nothing changes before that."""
        # As sent: who wrote the set is not who approves it, and of a member that is there twice one is read.
        wanted = trusting.read(call.body)
        now, present = self._now(), self.vault.identity.trust
        if wanted == present:
            raise BadParameter("trust: want another set than the one that the vault has, got the same")
        if self.vault.epoch + 1 >= trusting.MOST_SETS:
            raise BadParameter(f"trust: a vault has at most {trusting.MOST_SETS} sets in its life")

        def work(writing: Writing) -> None:
            if not is_used(writing):
                raise Conflict("trust: want a vault that has had a key; one without starts under any set")
            trusting.approve(writing, wanted, _subject(call), now)

        self.vault.storage.update(work)
        changes = differences(trusting.proposal(present), trusting.proposal(wanted))
        rows = [{"at": at, "from": before, "to": after} for at, before, after in changes]
        return Answer({"next": wanted.digest, "changes": rows})

    def withdraw(self, call: Call) -> Answer:
        """Delete the approval, if there is one."""
        now = self._now()
        self.vault.storage.update(lambda writing: trusting.withdraw(writing, _subject(call), now))
        return Answer(status=204)

    def _now(self) -> int:
        return int(self.clock.now().timestamp())

    def _url(self, call: Call) -> str:
        return self.hosts.url(call.headers)

    def _bundle(self, call: Call, record: KeyRecord, version: KeyVersion) -> Answer:
        return Answer(views.bundle(self._url(call), record, version, self.vault.rules, _api(call)))

    def _names(self, call: Call, listing: str, *, deleted: bool) -> paging.Page[KeyRecord]:
        now = self._now()

        def every(after: str) -> Iterable[KeyRecord]:
            return keys.live(self.vault.storage, now, deleted=deleted, after=after)

        return paging.page(self.vault, listing, every, _folded_name, call.query)

    def _list_records(self, call: Call, path: str, page: paging.Page[KeyRecord]) -> Answer:
        items = [
            views.item(self._url(call), one, one.current, self.vault.rules, _api(call), versioned=False)
            for one in page.several
        ]
        return self._page(call, path, items, page.token)

    def _page(self, call: Call, path: str, items: list[dict[str, Any]], token: str | None) -> Answer:
        link = None
        if token is not None:
            most = paging.most_results(call.query)
            query = f"api-version={call.version}&$skiptoken={token}&maxresults={most}"
            link = f"{self._url(call)}{path}?{query}"
        return Answer({"value": items, "nextLink": link})


def _subject(call: Call) -> str:
    return call.caller.subject if call.caller is not None else ""


def _api(call: Call) -> str:
    return call.version or ""


def _version(call: Call) -> str:
    return call.path.get("version", LATEST)


def _folded_name(record: KeyRecord) -> str:
    return fold_case(record.name)


def _hsm(call: Call) -> bool:
    """The member ``hsm`` of an import, in any case: Azure's clients write two forms."""
    members = call.json(dict[str, Any])
    return any(name.lower() == "hsm" and value is True for name, value in members.items())


def _releasable(call: Call, attributes: requests.Attributes | None, policy: requests.Policy | None) -> None:
    exportable = attributes is not None and attributes.exportable
    if (exportable or policy is not None) and BEFORE_RELEASE.fullmatch(_api(call)):
        raise BadParameter(
            "AKV.SKR.1001: The exportable attribute is only supported with premium vaults and API version >= "
            f"'7.3-preview': got {call.version}."
        )
