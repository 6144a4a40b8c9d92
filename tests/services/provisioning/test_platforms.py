"""Enrolment: possession is proven, an owner allows, and what was revoked stays so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kluis.authority import Authority as Own
from kluis.authority import enrolment
from kluis.services.provisioning import platforms
from tests.services.provisioning.serving import ONES, OWNER, READER, SGX, TWOS, Asking, Platform


def _error(answer: Any) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def _list(asking: Asking) -> list[tuple[str, int, str]]:
    found = asking.ask("GET", "/kluis/platforms", READER).json()["platforms"]
    return [(one["key"], one["pcesvn"], one["status"]) for one in found]


def test_who_would_notice_a_rollback(asking: Asking) -> None:
    """The list of platforms states whether a host could roll back revocations unnoticed."""
    answer = asking.ask("GET", "/kluis/platforms", READER)
    assert answer.json() == {"platforms": [], "rollback": "undetected"}


def _name(platform: Platform) -> str:
    return enrolment.name_of(enrolment.point(platform.pck.public_key()))


def test_one_that_waits_is_allowed_by_the_owner(asking: Asking) -> None:
    """A new platform waits; once the owner has certified it, the same request gives the same chain."""
    platform = Platform()
    answer = asking.enrol(platform)
    assert (answer.status_code, answer.json()) == (202, {"status": "pending", "chain": None})
    assert _list(asking) == [(_name(platform), 1, "pending")]
    allowed = asking.order("certify", ppid=platform.ppid.hex()).json()
    assert allowed["status"] == "certified"
    answer = asking.enrol(platform)
    assert (answer.status_code, answer.json()) == (201, allowed)
    leaf = x509.load_pem_x509_certificates(allowed["chain"].encode())[0]
    assert leaf.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) == enrolment.point(
        platform.pck.public_key()
    )
    assert _list(asking) == [(_name(platform), 1, "UpToDate")]


def test_more_than_was_allowed_waits_again(asking: Asking) -> None:
    """One that claims a higher TCB waits for the owner; a lower one is certified unasked."""
    platform = Platform(pcesvn=5)
    asking.enrol(platform)
    asking.order("certify", ppid=platform.ppid.hex())
    platform.pcesvn = 6
    asking.clock.at += timedelta(seconds=1)
    assert asking.enrol(platform).status_code == 202
    platform.pcesvn = 4
    asking.clock.at += timedelta(seconds=1)
    assert asking.enrol(platform).status_code == 201


def test_many_lower_versions_wait(asking: Asking) -> None:
    """A platform that requests one version after another does not fill the list of revocations."""
    platform = Platform(pcesvn=9)
    asking.enrol(platform)
    asking.order("certify", ppid=platform.ppid.hex())
    asked = []
    for platform.pcesvn in range(8, 2, -1):
        asking.clock.at += timedelta(seconds=1)
        asked.append(asking.enrol(platform).status_code)
    assert asked == [201, 201, 201, 202, 202, 202]
    asking.order("revoke", ppid=platform.ppid.hex())
    assert len(list(_crl(asking))) == 4


def test_everybody_by_the_owners_word(asking: Asking) -> None:
    """Where the owner lets everybody in, one is certified at once, unless it takes another's name."""
    assert asking.order("terms", open=True).json() == {"open": True}
    assert asking.enrol(Platform()).status_code == 201
    assert asking.enrol(Platform()).status_code == 202
    asking.order("terms", open=False)
    assert asking.enrol(Platform(bytes(16))).status_code == 202


def test_another_key_takes_the_place_by_the_owners_word(asking: Asking) -> None:
    """When the owner certifies another key of a platform, the certificates of the first are revoked."""
    first, second = Platform(), Platform()
    asking.enrol(first)
    asking.order("certify", ppid=first.ppid.hex())
    asking.enrol(second)
    asking.order("certify", ppid=first.ppid.hex(), key=_name(second))
    assert _list(asking) == [(_name(second), 1, "UpToDate")]
    assert len(list(_crl(asking))) == 1
    assert asking.enrol(first).status_code == 202


def test_a_key_in_anothers_place_is_named(asking: Asking) -> None:
    """A PPID is in every quote, so anybody can use it: an owner must name the key that is approved."""
    own, stranger = Platform(), Platform()
    asking.enrol(own)
    ppid = own.ppid.hex()
    asking.order("certify", ppid=ppid)
    assert asking.enrol(stranger).status_code == 202
    assert _error(asking.order("certify", ppid=ppid)) == (
        400,
        "platform_key",
        f"platform {ppid} key: want {_name(stranger)}, which waits, or {_name(own)}, which it has, got none",
    )
    answer = asking.order("certify", ppid=ppid, key="ab" * 16)
    assert _error(answer) == (
        400,
        "platform_key",
        f"platform {ppid} key: want {_name(stranger)}, got {'ab' * 16!r}",
    )
    assert asking.order("certify", ppid=ppid, key=_name(own), pcesvn=2).status_code == 200
    assert (_name(own), 2, "UpToDate") in _list(asking)


def test_a_key_that_waits_is_not_exchanged(asking: Asking) -> None:
    """What an owner looked at in the list is what is allowed: another key under its name is refused."""
    own, stranger = Platform(pcesvn=2), Platform()
    asking.enrol(own)
    assert _error(asking.enrol(stranger)) == (
        403,
        "enrolment_key",
        f"platform {own.ppid.hex()}: want the key that waits, {_name(own)}, got {_name(stranger)}",
    )
    assert _list(asking) == [(_name(own), 2, "pending")]
    own.pcesvn = 1
    asking.clock.at += timedelta(seconds=1)
    assert asking.enrol(own).status_code == 202
    assert _list(asking) == [(_name(own), 1, "pending")]


def test_a_platforms_own_key_takes_the_place_of_a_strangers(asking: Asking) -> None:
    """A request with a certified platform's name does not prevent that platform's requests."""
    own, stranger = Platform(), Platform()
    asking.enrol(own)
    assert asking.order("certify", ppid=own.ppid.hex()).status_code == 200
    assert asking.enrol(stranger).status_code == 202
    own.pcesvn = 2
    asking.clock.at += timedelta(seconds=1)
    assert asking.enrol(own).status_code == 202
    assert asking.order("certify", ppid=own.ppid.hex()).status_code == 200
    assert _list(asking) == [(_name(own), 2, "UpToDate")]


def _crl(asking: Asking) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(asking.get(f"{SGX}/pckcrl?ca=platform&encoding=der").content)


def test_revoked_for_good(asking: Asking) -> None:
    """A revoked key is on the CRL with all its certificates, and is certified no more; a new key may be."""
    platform = Platform()
    asking.order("terms", open=True)
    asking.enrol(platform)
    platform.pcesvn = 2
    asking.clock.at += timedelta(seconds=1)
    asking.enrol(platform)
    ppid = platform.ppid.hex()
    assert asking.order("revoke", ppid=ppid).status_code == 204
    asking.clock.at += timedelta(seconds=1)
    assert asking.order("revoke", ppid=ppid).status_code == 204
    assert len(list(_crl(asking))) == 2
    assert _list(asking) == [(_name(platform), 2, "Revoked")]
    refused = (403, "platform_revoked", f"platform {ppid}: its key was revoked on 2026-06-01T12:00:01Z")
    assert _error(asking.enrol(platform)) == refused
    assert _error(asking.order("certify", ppid=ppid)) == refused
    assert asking.get(f"{SGX}/pckcerts?pceid=0000&qeid={ppid}").status_code == 404
    renewed = Platform()
    assert asking.enrol(renewed).status_code == 202
    assert asking.order("certify", ppid=ppid, key=_name(renewed).upper()).status_code == 200
    assert _list(asking) == [(_name(renewed), 1, "UpToDate")]


def test_a_revoked_key_under_another_name(asking: Asking) -> None:
    """A PPID is only claimed: a revoked key is certified under no other, nor in its old place."""
    asking.order("terms", open=True)
    platform, renewed = Platform(), Platform()
    asking.enrol(platform)
    waits = Platform(bytes(16))
    waits.pck = platform.pck
    asking.order("terms", open=False)
    ppid = platform.ppid.hex()
    asking.order("revoke", ppid=ppid)
    asking.order("terms", open=True)
    refused = (403, "platform_revoked", f"platform {ppid}: its key was revoked on 2026-06-01T12:00:00Z")
    assert _error(asking.enrol(waits)) == refused
    asking.enrol(renewed)
    assert asking.order("certify", ppid=ppid, key=_name(renewed)).status_code == 200
    assert _error(asking.enrol(platform)) == refused
    assert _list(asking) == [(_name(renewed), 1, "UpToDate")]


def test_one_key_is_of_one_platform(asking: Asking) -> None:
    """Under a second name its certificates would outlive the revocation of the first."""
    platform, second = Platform(), Platform(bytes(16))
    second.pck = platform.pck
    asking.enrol(platform)
    assert asking.enrol(second).status_code == 202
    assert asking.order("certify", ppid=platform.ppid.hex()).status_code == 200
    refused = (
        403,
        "enrolment_held",
        f"platform {second.ppid.hex()}: want its own key, got {_name(platform)}, which belongs to"
        f" platform {platform.ppid.hex()}",
    )
    assert _error(asking.order("certify", ppid=second.ppid.hex())) == refused
    asking.order("terms", open=True)
    assert _error(asking.enrol(second)) == refused
    asking.order("revoke", ppid=platform.ppid.hex())
    assert _error(asking.order("certify", ppid=second.ppid.hex()))[1] == "platform_revoked"
    assert {status for *_, status in _list(asking)} == {"Revoked", "pending"}


def test_recovery_and_certification_anew(asking: Asking) -> None:
    """After a recovery a platform is OutOfDate, until the owner certifies it at the new TCB."""
    platform = Platform()
    asking.enrol(platform)
    ppid = platform.ppid.hex()
    asking.order("certify", ppid=ppid)
    assert asking.order("recover", advisories=["KLUIS-SA-1"]).json() == {
        "cpusvn": ONES.hex(),
        "pcesvn": 2,
        "evaluation": 2,
    }
    assert [status for *_, status in _list(asking)] == ["OutOfDate"]
    asking.order("certify", ppid=ppid, pcesvn=2)
    assert [status for *_, status in _list(asking)] == ["UpToDate"]
    asking.order("recover", cpusvn=TWOS.hex(), pcesvn=2)
    assert [status for *_, status in _list(asking)] == ["OutOfDate"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "message"),
    [
        (
            {"level": "process-user"},
            403,
            "enrolment_level",
            "enrolment.level: want process, got process-user",
        ),
        (
            {"made": "2026-06-01T11:49:59Z"},
            403,
            "enrolment_stale",
            "enrolment.made: want a time within 10 minutes of 2026-06-01T12:00:00Z, got 2026-06-01T11:49:59Z",
        ),
        (
            {"made": "2026-06-01T12:10:01Z"},
            403,
            "enrolment_stale",
            "enrolment.made: want a time within 10 minutes of 2026-06-01T12:00:00Z, got 2026-06-01T12:10:01Z",
        ),
        ({"pcesvn": 65536}, 400, "bad_value", "enrolment.pcesvn: want 0..65535, got 65536"),
        ({"ppid": bytes(15)}, 400, "bad_length", "enrolment.ppid: want 16 bytes, got 15"),
    ],
)
def test_refused_requests(
    asking: Asking, changes: dict[str, Any], status: int, code: str, message: str
) -> None:
    """A request for another level, of another time, or of another shape, is refused, with the reason."""
    request = Platform().request(asking, **changes)
    answer = asking.ask("POST", f"{SGX}/platforms", content=request)
    got = _error(answer)
    assert (got[0], got[2]) == (status, message)
    assert status == 400 or got[1] == code


def test_possession(asking: Asking) -> None:
    """A request signed by another key, changed in one byte, or with a key that is no point, is refused."""
    platform = Platform()
    request = platform.request(asking)
    other = enrolment.point(ec.generate_private_key(ec.SECP256R1()).public_key())
    own = enrolment.point(platform.pck.public_key())
    for changed in (
        request.replace(own.hex().encode(), other.hex().encode()),
        request.replace(b'"pcesvn":1', b'"pcesvn":9'),
        request.replace(own.hex().encode(), b"04" + b"00" * 64),
    ):
        answer = asking.ask("POST", f"{SGX}/platforms", content=changed)
        assert _error(answer) == (403, "enrolment_signature", "enrolment: its key did not sign it")
    answer = asking.ask("POST", f"{SGX}/platforms", content=request.replace(b'{"c', b'{"a":1,"c'))
    assert answer.status_code == 400


def test_for_another_root(asking: Asking) -> None:
    """A request that a platform made for another authority is worth nothing here."""
    request = Platform().request(asking, root=bytes(32))
    status, code, message = _error(asking.ask("POST", f"{SGX}/platforms", content=request))
    assert (status, code) == (403, "enrolment_root")
    assert message.endswith(f"got {bytes(32).hex()}")


def test_an_older_request_is_a_replay(asking: Asking) -> None:
    """A request older than one that was seen of the platform is refused."""
    platform = Platform()
    old = platform.request(asking)
    asking.clock.at += timedelta(minutes=1)
    asking.enrol(platform)
    asking.order("certify", ppid=platform.ppid.hex())
    answer = asking.ask("POST", f"{SGX}/platforms", content=old)
    assert _error(answer) == (
        403,
        "enrolment_stale",
        "enrolment.made: want 2026-06-01T12:01:00Z or later, as was seen, got 2026-06-01T12:00:00Z",
    )


def test_who_waits_is_bounded(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more platforms wait than there is room for; one that waits may ask again, and be refused."""
    monkeypatch.setattr(platforms, "MAX_PENDING", 1)
    first = Platform(bytes(16))
    assert asking.enrol(first).status_code == 202
    assert asking.enrol(first).status_code == 202
    assert _error(asking.enrol(Platform())) == (
        503,
        "enrolment_busy",
        "enrolment: want at most 1 platforms that wait, got one more",
    )
    assert asking.order("refuse", ppid=bytes(16).hex()).status_code == 204
    assert asking.enrol(Platform()).status_code == 202


def test_the_last_place_is_given(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is room for two that wait, two wait."""
    monkeypatch.setattr(platforms, "MAX_PENDING", 2)
    answers = [asking.enrol(Platform(bytes([number] * 16))).status_code for number in range(3)]
    assert answers == [202, 202, 503]


def test_the_bounds_of_a_tcb(asking: Asking) -> None:
    """An owner certifies for a PCESVN of 0 to 65535, and for no other."""
    platform = Platform()
    asking.enrol(platform)
    statuses = [
        asking.order("certify", ppid=platform.ppid.hex(), pcesvn=pcesvn).status_code
        for pcesvn in (0, 65535, 65536, -1)
    ]
    assert statuses == [200, 200, 400, 400]


def test_certificates_of_a_key_are_bounded(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key has so many certificates and no more: each must be revocable."""
    monkeypatch.setattr(platforms, "MAX_CERTIFICATES", 1)
    asking.order("terms", open=True)
    platform = Platform()
    asking.enrol(platform)
    platform.pcesvn = 2
    asking.clock.at += timedelta(seconds=1)
    assert _error(asking.enrol(platform)) == (
        400,
        "usage",
        f"platform {platform.ppid.hex()}: want at most 1 certificates of one key, got one more",
    )


def test_platforms_are_bounded(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everybody is let in, so many are, and no more."""
    monkeypatch.setattr(platforms, "MAX_PLATFORMS", 1)
    asking.order("terms", open=True)
    assert asking.enrol(Platform(bytes(16))).status_code == 201
    assert _error(asking.enrol(Platform())) == (
        503,
        "enrolment_busy",
        "enrolment: want at most 1 platforms, got one more",
    )


def test_two_at_once(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two concurrent changes of one platform, one must retry, and nothing is half done."""
    asking.order("terms", open=True)
    platform = Platform()
    own = Own.certify

    def slow(self: Own, *given: Any, **more: Any) -> bytes:
        monkeypatch.setattr(Own, "certify", own)
        assert asking.enrol(platform).status_code == 201
        return own(self, *given, **more)

    monkeypatch.setattr(Own, "certify", slow)
    answer = asking.enrol(platform)
    assert _error(answer)[:2] == (503, "enrolment_busy")
    assert answer.json()["error"]["message"].endswith("was changed by another at the same time")
    assert asking.enrol(platform).status_code == 201


@pytest.mark.parametrize("name", ["certify", "revoke", "refuse"])
def test_orders_about_nobody(asking: Asking, name: str) -> None:
    """An order about an unknown platform, or an invalid name, reports that."""
    assert _error(asking.order(name, ppid="ab" * 16)) == (
        400,
        "platform_unknown",
        f"platform '{'ab' * 16}': want a platform that requested a certificate, got another",
    )
    assert _error(asking.order(name, ppid="../x")) == (400, "usage", "ppid: want 32 hex digits, got '../x'")


@pytest.mark.parametrize(
    ("order", "body", "message"),
    [
        ("recover", {"cpusvn": "zz"}, "cpusvn: want 32 hex digits, got 'zz'"),
        ("recover", {"pcesvn": 65536}, "recovery: want 16 bytes of cpusvn and a pcesvn of 0..65535"),
        (
            "certify",
            {"ppid": "ab" * 16, "pcesvn": -1},
            "certify: want 16 bytes of cpusvn and a pcesvn of 0..65535",
        ),
    ],
)
def test_orders_that_cannot_be_meant(asking: Asking, order: str, body: dict[str, Any], message: str) -> None:
    """An order with an invalid TCB is refused."""
    assert _error(asking.order(order, **body)) == (400, "usage", message)


@pytest.mark.parametrize("name", ["recover", "certify", "revoke", "refuse", "terms", "collateral"])
def test_orders_are_the_owners(asking: Asking, name: str) -> None:
    """An order without identity, or from a reader, is refused and changes nothing."""
    before = asking.get(f"{SGX}/tcb?fmspc=e0e0e0000000").content
    assert asking.ask("POST", f"/kluis/{name}", json={}).status_code == 401
    assert asking.ask("POST", f"/kluis/{name}", READER, json={}).status_code == 403
    assert asking.get(f"{SGX}/tcb?fmspc=e0e0e0000000").content == before
    assert asking.ask("GET", "/kluis/platforms").status_code == 401
    assert asking.ask("GET", "/kluis/platforms", OWNER).status_code == 200


REGISTRATION = {
    "qe_id": "00" * 16, "pce_id": "0000", "cpu_svn": "00" * 16, "pce_svn": "0000", "enc_ppid": "00" * 384,
    "platform_manifest": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"user-token": "secret"}, REGISTRATION),
        ({}, REGISTRATION),
        ({"user-token": "secret"}, {**REGISTRATION, "platform_manifest": "00" * 40_000}),
        ({}, {"platform_manifest": "00"}),
        ({"user-token": "secret"}, "no JSON object"),
    ],
)
def test_what_intels_tools_register(asking: Asking, headers: dict[str, str], body: Any) -> None:
    """A cache registration of the PCK ID retrieval tool is refused, with the right place for it."""
    answer = asking.ask("POST", f"{SGX}/platforms", json=body, headers=headers)
    told = (
        "platforms: want the enrolment of an emulated platform, got a registration as Intel's tools send it"
    )
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, told)
    assert (answer.headers["error-code"], answer.headers["error-message"]) == ("InvalidParameter", told)
    (hint,) = answer.json()["error"]["details"]
    assert hint["message"].startswith("register an Intel platform at Intel's own cache (PCCS): ")
    assert _list(asking) == []


@pytest.mark.parametrize("size", [4097, 128 << 10])
def test_an_enrolment_past_its_bound(asking: Asking, size: int) -> None:
    """Of what is no registration of Intel's tools 4 KiB are read, however much a registration may be."""
    body = b'{"made":"' + b"0" * (size - 11) + b'"}'
    answer = asking.ask("POST", f"{SGX}/platforms", content=body)
    told = f"enrolment: is {size} bytes, must be at most 4096"
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, told)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b" " * 5000, b"[" * 5000])
def test_what_is_no_enrolment(asking: Asking, body: bytes) -> None:
    """Anything else is no enrolment."""
    answer = asking.ask("POST", f"{SGX}/platforms", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("enrolment")
