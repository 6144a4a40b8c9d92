"""Manage a platform's certificates: TCB recovery, revocation, re-certification, enrolment, endorsement.

Only root and the platform's own user may send these orders. Each changes the files first and then the running
platform, so the next start completes what a crash interrupted.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.x509 import load_pem_x509_certificates

from kluis.authority.enrolment import Enrolment, name_of, point
from kluis.authority.issuing import zulu
from kluis.authority.state import MAX_ADVISORIES, REVOKED
from kluis.errors import AuthenticityError, PolicyError, UsageError
from kluis.formats import x509
from kluis.formats.encoding import jcs
from kluis.formats.encoding.members import Members
from kluis.formats.kluis import channel, machine
from kluis.formats.kluis.endorsement import Endorsement
from kluis.formats.sgx import extension
from kluis.formats.tpm import pcrs
from kluis.formats.tpm.algorithm import HashId
from kluis.tee.platform.root import enrolled
from kluis.tee.platform.root.keys import CPUSVN
from kluis.tee.platform.root.quoting import MAX_EARLIER, PlatformKeys
from kluis.tee.platform.root.session import Root

AUTHORITY: Final = "authority"
KEYS: Final = "platform"
NEXT: Final = "platform.next"
LASTING: Final = timedelta(days=365)
MAX_ORDER: Final = channel.MAX_FRAME
MAX_COLLATERAL: Final = channel.MAX_FRAME - 8192


class Upkeep:
    """Carries out orders about a platform's certificates.

    Args:
        root: the platform's keys and state; changed.
        state: their folder.
    """

    def __init__(self, root: Root, state: Path) -> None:
        self._root = root
        self._state = state
        self._lock = threading.Lock()
        self._orders: dict[str, Callable[[Members], dict[str, Any]]] = {
            "recover": self._recover,
            "revoke": self._revoke,
            "certify": self._certify,
            "enrolment": self._enrolment,
            "adopt": self._adopt,
            "endorse": self._endorse,
            "reseal": self._reseal,
        }
        self._endorsed = ""
        self._asked = ""

    def __contains__(self, op: object) -> bool:
        return isinstance(op, str) and op in self._orders

    def answer(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """Carry out one order.

        Args:
            request: its ``op`` is one of the orders here.
            descriptors: an open file with the rest of the order, JSON, if it is large.

        Raises:
            KluisError: it cannot be carried out; nothing is changed.
        """
        op = str(request["op"])
        order = dict(request) | (_read(descriptors[0], op) if descriptors else {})
        with self._lock:
            return self._orders[op](Members(order, op))

    def status(self) -> dict[str, Any]:
        """The platform's certifier, its key's name, and its TCB status."""
        keys = self._root.keys
        return {
            "authority": self._root.enrolled.service if self._root.enrolled else "its own",
            "ppid": keys.ppid.hex(),
            "key": name_of(point(keys.pck.public_key())),
            "pcesvn": keys.pcesvn,
            "tcb": self._tcb(),
            "endorsed": self._endorsed if self._root.endorsement is not None else "no",
        }

    def _tcb(self) -> str:
        root = self._root
        if root.enrolled is not None:
            return root.enrolled.status(root.keys, root.level, _now())
        if root.authority.is_revoked(root.keys.chain):
            return REVOKED
        return root.authority.state.status(root.keys.cpusvn, root.keys.pcesvn)

    def _reseal(self, order: Members) -> dict[str, Any]:
        """Seal the secret for an announced boot, too."""
        if self._root.reseal is None:
            raise UsageError("reseal: the secret is not sealed to a TPM", hint="kluis platform start --tpm")
        values = pcrs.parse_json(
            jcs.dumps({HashId.SHA256.label: dict(order.object("pcrs").entries(most=24))})
        )
        self._root.reseal(values[HashId.SHA256])
        return self.status()

    def _recover(self, order: Members) -> dict[str, Any]:
        self._require_own("recover")
        own = self._root.authority
        required = own.state.levels[0]
        own.recover(
            cpusvn=order.hex("cpusvn", 16) if "cpusvn" in order else required.cpusvn,
            pcesvn=order.integer("pcesvn", most=0xFFFF) if "pcesvn" in order else required.pcesvn + 1,
            advisories=order.texts("advisories", most=MAX_ADVISORIES),
            now=_now(),
        )
        own.save(self._state / AUTHORITY)
        return self.status()

    def _revoke(self, _: Members) -> dict[str, Any]:
        self._require_own("revoke")
        # All certificates of its key, and its earlier keys: anyone who has one could present any of them.
        self._root.authority.revoke_serials(self._root.keys.serials(), _now())
        self._root.authority.save(self._state / AUTHORITY)
        return self.status()

    def _certify(self, order: Members) -> dict[str, Any]:
        root, own = self._root, self._root.authority
        fresh = order.flag("new_keys") or (root.enrolled is None and own.is_revoked(root.keys.chain))
        pcesvn = own.state.levels[0].pcesvn
        if not fresh and root.enrolled is None and _lasts(root.keys, pcesvn):
            return self.status()  # an equal certificate would only be one more to revoke
        keys = root.keys.renew() if fresh else root.keys
        keys = self._drop_revoked(keys.recertify(own, _now(), cpusvn=CPUSVN, pcesvn=pcesvn))
        keys.save(self._state / NEXT)
        settle(self._state)
        (self._state / enrolled.FILE).unlink(missing_ok=True)
        root.keys, root.enrolled = keys, None
        return self.status()

    def _enrolment(self, order: Members) -> dict[str, Any]:
        keys = self._root.keys
        enrolment = Enrolment(
            ppid=keys.ppid,
            key=point(keys.pck.public_key()),
            cpusvn=CPUSVN,
            pcesvn=order.integer("pcesvn", most=0xFFFF) if "pcesvn" in order else keys.pcesvn,
            level=self._root.level,
            root=order.hex("root", 32),
            made=self._later(),
        )
        return {
            "request": enrolment.sign(keys.pck).decode(),
            "ppid": keys.ppid.hex(),
            "key": name_of(enrolment.key),
        }

    def _later(self) -> str:
        """The time, and in the second of the request before, the next: a service may refuse an equal one.

        Waits at most one second, because other orders wait meanwhile.
        """
        now = _now()
        if zulu(now) == self._asked:
            time.sleep(1.01 - now.microsecond / 1e6)
        self._asked = zulu(_now())
        return self._asked

    def _adopt(self, order: Members) -> dict[str, Any]:
        root, enrolment = self._root, enrolled.read(order)
        chain = order.text("chain").encode()
        sgx = _extension_of(chain)
        for name, want, got in (("ppid", root.keys.ppid, sgx.ppid), ("cpusvn", CPUSVN, sgx.cpusvn)):
            if got != want:
                raise AuthenticityError(
                    f"PCK certificate: {name}: want {want.hex()}, got {got.hex()}", code="enrolment_mismatch"
                )
        if len(enrolment.collateral) > MAX_COLLATERAL:
            raise UsageError(
                f"adopt.collateral: want at most {MAX_COLLATERAL} bytes, got {len(enrolment.collateral)}"
            )
        keys = self._drop_revoked(root.keys.under(chain, cpusvn=sgx.cpusvn, pcesvn=sgx.pcesvn))
        enrolment.check(keys, root.level, _now())
        enrolment.save(self._state)
        keys.save(self._state / KEYS)
        root.keys, root.enrolled, root.endorsement = keys, enrolment, None
        return self.status()

    def _endorse(self, order: Members) -> dict[str, Any]:
        """Publish an endorsement of this root with the collateral, until the platform ends."""
        self._require_own("endorse")  # a service's root is other platforms' root, too
        root, data = self._root, order.text("endorsement").encode()
        endorsement = Endorsement.parse(data)
        (certificate,) = x509.parse_pem(root.root_pem(), "root")
        want, got = machine.name_of(certificate.spki), machine.of_runtime_data(endorsement.runtime_data).root
        if got != want:
            raise UsageError(
                f"endorse: root: want {want.hex()[:16]}.., this platform's, got {got.hex()[:16]}..",
                hint="kluis platform start --endorse NAME makes one of this root",
                code="endorsement_root",
            )
        before, root.endorsement = root.endorsement, data
        if (size := len(root.collateral())) > MAX_COLLATERAL:
            root.endorsement = before
            raise UsageError(f"endorse: collateral: want at most {MAX_COLLATERAL} bytes with it, got {size}")
        self._endorsed = f"{endorsement.kind}, {_now():%Y-%m-%dT%H:%M:%SZ}"
        return self.status()

    def _drop_revoked(self, keys: PlatformKeys) -> PlatformKeys:
        """Keys without the earlier certificates that are already revoked.

        Raises:
            UsageError: too many to record.
        """
        earlier = self._root.authority.drop_revoked(keys.earlier)
        if len(earlier) > MAX_EARLIER:
            raise UsageError(
                f"certificates: want at most {MAX_EARLIER} earlier ones that are not revoked, got one more",
                hint="kluis platform certify; kluis platform revoke; kluis platform certify",
            )
        return dataclasses.replace(keys, earlier=earlier)

    def _require_own(self, order: str) -> None:
        if self._root.enrolled is not None:
            raise PolicyError(
                f"platform {order}: its authority is {self._root.enrolled.service}, whose owner orders that",
                hint="kluis platform certify puts it under its own authority again",
                code="platform_enrolled",
            )


def _lasts(keys: PlatformKeys, pcesvn: int) -> bool:
    """Whether the current certificate equals a new one, and is valid for another year."""
    end = load_pem_x509_certificates(keys.chain)[0].not_valid_after_utc
    return (keys.cpusvn, keys.pcesvn) == (CPUSVN, pcesvn) and end - _now() > LASTING


def settle(state: Path) -> None:
    """Replace the old keys with new ones, all or none; also those that were complete before a crash."""
    made = state / NEXT
    if not made.exists():
        return
    import shutil  # at most starts, nothing was made

    # Written last, moved last: while it exists, all others exist or have been moved.
    if (made / "platform.json").exists():
        for name in ("pck.key", "attestation.key", "platform.json"):
            if (made / name).exists():
                os.replace(made / name, state / KEYS / name)
    shutil.rmtree(made, ignore_errors=True)


def _read(descriptor: int, what: str) -> dict[str, Any]:
    """Read an order from an open file, from its start."""
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_ORDER:
        raise UsageError(f"{what}: want a regular file of at most {MAX_ORDER} bytes")
    value = jcs.loads(os.pread(descriptor, MAX_ORDER, 0), what)
    if not isinstance(value, dict):
        raise UsageError(f"{what}: want an object, got another value")
    return value


def _extension_of(chain: bytes) -> extension.SgxExtension:
    """The platform's description in a chain's PCK certificate; nothing is verified."""
    for certificate in x509.parse_pem(chain, "PCK chain"):
        if extension.OID in certificate.extensions:
            return extension.parse(certificate.extensions[extension.OID])
    raise AuthenticityError("PCK chain: has no PCK certificate", code="chain_missing")


def _now() -> datetime:
    return datetime.now(UTC)
