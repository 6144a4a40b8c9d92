"""Upkeep of certificates: orders are kept, a service's word is checked, a crash leaves all or nothing."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kluis.authority import Authority as Service
from kluis.authority.enrolment import Enrolment
from kluis.errors import AuthenticityError, FormatError, KluisError, UsageError
from kluis.formats import x509
from kluis.hashes import sha256
from kluis.tee.platform import daemon
from kluis.tee.platform.root import upkeep
from kluis.tee.platform.root.enrolled import FILE, Enrolled
from kluis.tee.platform.root.quoting import PlatformKeys
from kluis.tee.platform.root.session import Root
from kluis.tee.platform.root.upkeep import Upkeep

CPUSVN = bytes([1] * 16)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A platform's keys and authority, in files."""
    return daemon.load_root(tmp_path, "process", bytes(32))


@pytest.fixture
def orders(root: Root, tmp_path: Path) -> Upkeep:
    return Upkeep(root, tmp_path)


def adoption(service: Service, keys: PlatformKeys, **changes: Any) -> dict[str, Any]:
    """What a host brings from a service that certified a platform."""
    said = {"ppid": keys.ppid, "cpusvn": CPUSVN, "pcesvn": 1, **changes}
    key = said.pop("key", keys.pck.public_key())
    return {
        "op": "adopt",
        "service": "https://pcs.example",
        "root": service.root_pem().decode(),
        "collateral": json.dumps(service.collateral(now())),
        "chain": service.certify(key, now=now(), **said).decode(),
    }


def test_orders_are_kept(orders: Upkeep, root: Root, tmp_path: Path) -> None:
    """Each order changes what runs and what the next start finds, and nothing else of the platform."""
    assert orders.status()["tcb"] == "UpToDate"
    orders.answer({"op": "recover", "cpusvn": "02" * 16, "pcesvn": 4, "advisories": ["KLUIS-SA-1"]})
    assert orders.status()["tcb"] == "OutOfDate"
    # This platform's code is what it is: no certificate makes it newer.
    assert orders.answer({"op": "certify", "new_keys": False})["tcb"] == "OutOfDate"
    assert (root.keys.cpusvn, root.keys.pcesvn) == (CPUSVN, 4)
    again = daemon.load_root(tmp_path, "process", bytes(32))
    assert again.authority.state == root.authority.state
    assert again.keys.chain == root.keys.chain


def test_revoked_keys_are_renewed(orders: Upkeep, root: Root, tmp_path: Path) -> None:
    """A revoked key is not certified again: certification makes new ones, of the same platform."""
    before = root.keys
    assert orders.answer({"op": "revoke"})["tcb"] == "Revoked"
    assert orders.answer({"op": "certify", "new_keys": False})["tcb"] == "UpToDate"
    after = daemon.load_root(tmp_path, "process", bytes(32)).keys
    assert (after.ppid, after.chain) == (before.ppid, root.keys.chain)
    assert root.authority.is_revoked(before.chain)
    assert not root.authority.is_revoked(after.chain)
    numbers = [keys.pck.private_numbers().private_value for keys in (before, after)]
    assert numbers[0] != numbers[1]


def test_all_certificates_of_a_platform_are_revoked(orders: Upkeep, root: Root, tmp_path: Path) -> None:
    """A stolen key comes with any of its certificates: all earlier ones are revoked, and those of earlier
    keys, even if the platform was restarted or enrolled elsewhere meanwhile.
    """
    chains = [root.keys.chain]

    def certified(**order: Any) -> None:
        orders.answer({"op": "certify", "new_keys": False, **order})
        chains.append(root.keys.chain)

    for _ in range(2):
        orders.answer({"op": "recover", "advisories": []})
        certified()
    certified(new_keys=True)
    orders.answer(adoption(Service.create("process", now()), root.keys))
    certified()
    assert len({*chains}) == len(chains) == 5
    again = daemon.load_root(tmp_path, "process", bytes(32))
    assert again.keys.earlier == root.keys.earlier
    assert Upkeep(again, tmp_path).answer({"op": "revoke"})["tcb"] == "Revoked"
    assert [again.authority.is_revoked(chain) for chain in chains] == [True] * 5
    Upkeep(again, tmp_path).answer({"op": "certify", "new_keys": False})
    assert again.keys.earlier == ()


def test_certified_for_the_same(orders: Upkeep, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate with the same content as a new one is kept, unless it ends within a year."""
    before = root.keys.chain
    for _ in range(3):
        assert orders.answer({"op": "certify", "new_keys": False})["tcb"] == "UpToDate"
    assert (root.keys.chain, root.keys.earlier) == (before, ())
    monkeypatch.setattr(upkeep, "LASTING", timedelta(days=36500))
    orders.answer({"op": "certify", "new_keys": False})
    assert root.keys.chain != before


def test_certificates_that_are_remembered(
    orders: Upkeep, root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many, and no more: none is forgotten while it holds. What a Kluis before kept has none."""
    monkeypatch.setattr(upkeep, "MAX_EARLIER", 1)
    orders.answer({"op": "certify", "new_keys": True})
    before = root.keys.chain
    with pytest.raises(UsageError) as caught:
        orders.answer({"op": "certify", "new_keys": True})
    assert caught.value.message == (
        "certificates: want at most 1 earlier ones that are not revoked, got one more"
    )
    assert root.keys.chain == before
    orders.answer({"op": "revoke"})
    orders.answer({"op": "certify", "new_keys": True})
    kept = tmp_path / "platform" / "platform.json"
    kept.write_bytes(kept.read_bytes().replace(b'"earlier":[],', b""))
    assert daemon.load_root(tmp_path, "process", bytes(32)).keys.earlier == ()
    kept.write_bytes(kept.read_bytes().replace(b'"pcesvn"', b'"earlier":["x"],"pcesvn"'))
    with pytest.raises(FormatError, match=r"platform\.json\.earlier: want serial numbers in hex"):
        daemon.load_root(tmp_path, "process", bytes(32))


def test_adopted(orders: Upkeep, root: Root, tmp_path: Path) -> None:
    """A service's documents are used once they verify, kept, and dropped again by certification at home."""
    service = Service.create("process", now())
    said = orders.answer(adoption(service, root.keys))
    assert (said["authority"], said["tcb"]) == ("https://pcs.example", "UpToDate")
    assert root.root_pem() == service.root_pem()
    assert daemon.load_root(tmp_path, "process", bytes(32)).root_pem() == service.root_pem()
    service.recover(cpusvn=CPUSVN, pcesvn=2, advisories=(), now=now())
    assert orders.answer(adoption(service, root.keys))["tcb"] == "OutOfDate"
    for op in ("recover", "revoke"):
        with pytest.raises(KluisError) as caught:
            orders.answer({"op": op})
        assert caught.value.message == (
            f"platform {op}: its authority is https://pcs.example, whose owner orders that"
        )
    assert orders.answer({"op": "certify", "new_keys": False})["authority"] == "its own"
    assert not (tmp_path / FILE).exists()
    assert root.root_pem() == root.authority.root_pem()


def _broken(case: str, root: Root) -> tuple[dict[str, Any], str]:
    keys, service = root.keys, Service.create("process", now())
    match case:
        case "another platform":
            return adoption(service, keys, ppid=bytes(16)), "enrolment_mismatch"
        case "a TCB that is not its own":
            return adoption(service, keys, cpusvn=bytes([9] * 16)), "enrolment_mismatch"
        case "another key":
            return adoption(service, keys, key=keys.attestation.public_key()), "sig_qe_report"
        case "another level":
            other = Service.create("process-user", now())
            return adoption(other, keys), "enrolment_level"
        case "a root that did not issue":
            other = Service.create("process", now())
            return {**adoption(service, keys), "root": other.root_pem().decode()}, "root_untrusted"
        case "collateral of another":
            other = Service.create("process", now())
            return {**adoption(service, keys), "collateral": json.dumps(other.collateral(now()))}, (
                "root_untrusted"
            )
        case "revoked":
            given = adoption(service, keys)
            service.revoke(given["chain"].encode(), now())
            return {**given, "collateral": json.dumps(service.collateral(now()))}, "cert_revoked"
        case "no PCK certificate":
            return {**adoption(service, keys), "chain": service.state.root}, "chain_missing"
        case _:
            return {**adoption(service, keys), "service": "https://x\n"}, "bad_encoding"


@pytest.mark.parametrize(
    "case",
    [
        "another platform",
        "a TCB that is not its own",
        "another key",
        "another level",
        "a root that did not issue",
        "collateral of another",
        "revoked",
        "no PCK certificate",
        "a name that cannot be printed",
    ],
)
def test_not_adopted(orders: Upkeep, root: Root, tmp_path: Path, case: str) -> None:
    """Documents that do not verify, or are of another platform, are refused, and change nothing."""
    request, code = _broken(case, root)
    before = root.keys
    with pytest.raises((AuthenticityError, FormatError)) as caught:
        orders.answer(request)
    assert caught.value.code == code
    assert root.keys is before
    assert root.enrolled is None
    assert not (tmp_path / FILE).exists()


def test_collateral_that_ran_out(orders: Upkeep, root: Root) -> None:
    """A platform whose service's collateral expired reports that, until it renews it."""
    service = Service.create("process", now())
    orders.answer(adoption(service, root.keys))
    held = root.enrolled
    assert held is not None
    later = datetime(2099, 1, 1, tzinfo=UTC)
    assert held.status(root.keys, "process", later).endswith("_expired")


def test_a_request_is_signed_by_the_platform(orders: Upkeep, root: Root) -> None:
    """A platform's request to a service is signed by its key, and names the requested root."""
    service = Service.create("process", now())
    (certificate,) = x509.parse_pem(service.root_pem(), "root")
    mark = sha256(certificate.der)
    said = orders.answer({"op": "enrolment", "root": mark.hex(), "pcesvn": 3})
    opened = Enrolment.open(said["request"].encode(), root=mark, level="process", now=now())
    assert (opened.ppid.hex(), opened.pcesvn) == (said["ppid"], 3)
    assert opened.public_key().public_numbers() == root.keys.pck.public_key().public_numbers()


def test_requests_in_a_row_state_different_seconds(orders: Upkeep) -> None:
    """Requests without a pause state different seconds, so that a service takes none for a replay."""
    order = {"op": "enrolment", "root": bytes(32).hex()}
    made = []
    for _ in range(3):
        request = orders.answer(order)["request"].encode()
        made.append(Enrolment.open(request, root=bytes(32), level="process", now=now()).made)
    assert made == sorted(set(made))


def test_left_over(orders: Upkeep, root: Root, tmp_path: Path) -> None:
    """After a crash, a service's remaining documents next to the platform's own chain are ignored."""
    Enrolled(service="https://x", root=Service.create("process", now()).root_pem(), collateral=b"{}").save(
        tmp_path
    )
    assert daemon.load_root(tmp_path, "process", bytes(32)).enrolled is None


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_new_keys_after_a_crash(root: Root, tmp_path: Path, moved: int) -> None:
    """A crash after new keys were written whole leaves them, however many files were moved by then."""
    new = PlatformKeys.create(root.authority, now())
    new.save(tmp_path / upkeep.NEXT)
    for name in ("pck.key", "attestation.key", "platform.json")[:moved]:
        os.replace(tmp_path / upkeep.NEXT / name, tmp_path / upkeep.KEYS / name)
    keys = daemon.load_root(tmp_path, "process", bytes(32)).keys
    assert keys.chain == new.chain
    assert keys.pck.private_numbers() == new.pck.private_numbers()
    assert keys.attestation.private_numbers() == new.attestation.private_numbers()
    assert not (tmp_path / upkeep.NEXT).exists()


def test_old_keys_after_a_crash(root: Root, tmp_path: Path) -> None:
    """A crash before new keys were whole leaves the old ones."""
    new = PlatformKeys.create(root.authority, now())
    new.save(tmp_path / upkeep.NEXT)
    (tmp_path / upkeep.NEXT / "platform.json").unlink()
    keys = daemon.load_root(tmp_path, "process", bytes(32)).keys
    assert keys.pck.private_numbers() == root.keys.pck.private_numbers()
    assert not (tmp_path / upkeep.NEXT).exists()


def test_orders_that_cannot_be_meant(orders: Upkeep) -> None:
    """An order with a member missing, or of another kind, is refused and changes nothing."""
    for order, message in (
        ({"op": "recover"}, "recover: member 'advisories' is missing"),
        ({"op": "certify", "new_keys": 1}, "certify.new_keys: want true or false, got an integer"),
        ({"op": "enrolment", "root": "00"}, "enrolment.root: want 32 bytes, got 1"),
    ):
        with pytest.raises((FormatError, UsageError)) as caught:
            orders.answer(order)
        assert caught.value.message == message
    assert "launch" not in orders


def test_a_large_order_is_in_a_file(orders: Upkeep, root: Root, tmp_path: Path) -> None:
    """The rest of an order may be in a regular file, which is bounded; what is in it counts."""
    service = Service.create("process", now())
    path = tmp_path / "order"
    path.write_text(json.dumps(adoption(service, root.keys)))
    with path.open("rb") as file:
        file.read()
        assert orders.answer({"op": "adopt"}, [file.fileno()])["authority"] == "https://pcs.example"
    path.write_bytes(bytes(upkeep.MAX_ORDER + 1))
    too_large = {**adoption(service, root.keys), "collateral": " " * (upkeep.MAX_COLLATERAL + 1)}
    ends = os.pipe()
    with path.open("rb") as file:
        for fd in (file.fileno(), ends[0]):
            with pytest.raises(UsageError) as caught:
                orders.answer({"op": "adopt"}, [fd])
            assert caught.value.message == "adopt: want a regular file of at most 131072 bytes"
    for end in ends:
        os.close(end)
    path.write_bytes(b"[]")
    with path.open("rb") as file, pytest.raises(UsageError) as caught:
        orders.answer({"op": "adopt"}, [file.fileno()])
    assert caught.value.message == "adopt: want an object, got another value"
    with pytest.raises(UsageError) as caught:
        orders.answer(too_large)
    assert caught.value.message == "adopt.collateral: want at most 122880 bytes, got 122881"
