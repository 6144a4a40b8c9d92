"""Users and roles of Azure's dialect."""

from __future__ import annotations

import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from tests.odd_certificates import of_odd_version
from tests.services.ledger.world import ADMIN, NOBODY, NOW, VERSION, Identity, Served, World, run

LOWER = NOBODY.id


def test_a_user_is_added_by_fingerprint_in_any_form(world: World) -> None:
    """With colons as they are, percent-encoded, without, and in lower case: it is one user."""

    async def test(served: Served) -> None:
        answer = await served.ask(
            "PATCH", f"/app/users/{NOBODY.user}", ADMIN, json={"assignedRole": "Reader"}
        )
        assert answer.json() == {"userId": NOBODY.user, "assignedRole": "Reader"}
        for form in (NOBODY.user, NOBODY.user.replace(":", "%3A"), LOWER, NOBODY.user.lower()):
            found = await served.ask("GET", f"/app/users/{form}", ADMIN)
            assert found.json() == {"userId": NOBODY.user, "assignedRole": "Reader"}
        assert (await served.ask("GET", "/app/transactions", NOBODY)).status_code == 200
        assert (await served.ask("DELETE", f"/app/users/{NOBODY.user}", ADMIN)).status_code == 204
        assert (await served.ask("GET", "/app/transactions", NOBODY)).status_code == 403
        assert (await served.ask("GET", f"/app/users/{NOBODY.user}", ADMIN)).status_code == 404

    run(world, test)


def test_the_last_administrator_stays(world: World) -> None:
    """Neither deleted nor given less, until there is another."""

    async def test(served: Served) -> None:
        path = f"/app/users/{ADMIN.user}"
        for method, body in (("DELETE", None), ("PATCH", {"assignedRole": "Reader"})):
            answer = await served.ask(method, path, ADMIN, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "LastAdministrator")
        other = {"assignedRole": "Administrator"}
        assert (await served.ask("PATCH", f"/app/users/{NOBODY.user}", ADMIN, json=other)).status_code == 200
        assert (await served.ask("DELETE", path, ADMIN)).status_code == 204
        assert (await served.ask("GET", "/app/users", ADMIN)).status_code == 403

    run(world, test)


def test_users_have_several_roles_and_are_listed_in_pages(world: World) -> None:
    """One list has the role that allows most, the other has all."""

    async def test(served: Served) -> None:
        roles = {"assignedRoles": ["Reader", "Contributor"]}
        answer = await served.ask("PATCH", f"/app/ledgerUsers/{NOBODY.user}", ADMIN, json=roles)
        assert answer.json() == {"userId": NOBODY.user, **roles}
        found = (await served.ask("GET", f"/app/users/{NOBODY.user}", ADMIN)).json()
        assert found["assignedRole"] == "Contributor"
        listed = (await served.ask("GET", "/app/ledgerUsers", ADMIN)).json()["ledgerUsers"]
        assert {one["userId"]: one["assignedRoles"] for one in listed}[NOBODY.user] == roles["assignedRoles"]

    run(world, test)


def test_roles_are_defined_and_what_they_allow_counts(world: World) -> None:
    """In the shape of each version; a role that is gone allows nothing."""

    async def test(served: Served) -> None:
        document = {"roles": [{"roleName": "auditor", "roleActions": ["/content/read"]}]}
        made = await served.ask("PUT", "/app/roles", ADMIN, json=document)
        assert (made.status_code, made.json()) == (200, document)
        preview = "api-version=2024-12-09-preview"
        old = await served.ask("GET", f"/app/roles?roleName=auditor&{preview}", ADMIN, version=False)
        assert old.json() == document
        new = await served.ask("GET", "/app/roles?roleName=auditor", ADMIN)
        assert new.json() == {"role": document["roles"]}
        one = {"assignedRoles": ["auditor"]}
        assert (
            await served.ask("PATCH", f"/app/ledgerUsers/{NOBODY.user}", ADMIN, json=one)
        ).status_code == 200
        assert (await served.ask("GET", "/app/transactions", NOBODY)).status_code == 200
        post = await served.ask("POST", "/app/transactions", NOBODY, json={"contents": "x"})
        assert post.status_code == 403
        gone = await served.ask("DELETE", "/app/roles?roleName=auditor", ADMIN)
        assert (gone.status_code, gone.content) == (204, b"")
        assert (await served.ask("GET", "/app/transactions", NOBODY)).status_code == 403
        prior = await served.ask("DELETE", f"/app/roles?roleName=auditor&{preview}", ADMIN, version=False)
        assert prior.status_code == 200

    run(world, test)


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("PATCH", "/app/users/me", {"assignedRole": "Reader"}, "InvalidUserId"),
        ("PATCH", f"/app/users/{uuid.UUID(int=5)}", {"assignedRole": "King"}, "InvalidRole"),
        ("PATCH", f"/app/ledgerUsers/{uuid.UUID(int=5)}", {"assignedRoles": []}, "InvalidRole"),
        ("PATCH", f"/app/ledgerUsers/{uuid.UUID(int=5)}", {"assignedRoles": "Reader"}, "InvalidInput"),
        ("PUT", "/app/roles", {"roles": [{"roleName": "Reader", "roleActions": []}]}, "InvalidRole"),
        ("PUT", "/app/roles", {"roles": [{"roleName": "a b", "roleActions": []}]}, "InvalidRole"),
        ("PUT", "/app/roles", {"roles": [{"roleName": "a", "roleActions": ["x y"]}]}, "InvalidRole"),
        ("DELETE", "/app/roles", None, "InvalidRole"),
    ],
)
def test_what_no_user_can_be_is_refused(
    world: World, method: str, path: str, body: object, code: str
) -> None:
    """With a code, by an administrator as well."""

    async def test(served: Served) -> None:
        answer = await served.ask(method, path, ADMIN, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)

    run(world, test)


def test_an_expired_certificate_is_nobodys(world: World) -> None:
    """And so is one that is not valid yet."""

    async def test(served: Served) -> None:
        world.clock.pass_(366 * 24 * 3600)
        answer = await served.ask("GET", "/app/users", ADMIN)
        assert answer.status_code == 401
        assert "expired on 2027-11-28" in answer.json()["error"]["message"]
        fresh = Identity("early", world.clock.now().replace(year=2028))
        early = await served.ask("GET", "/app/users", fresh)
        assert "not valid before" in early.json()["error"]["message"]

    run(world, test)


def test_whoami_tells_what_the_ledger_sees(world: World) -> None:
    """An identity, its id in both dialects, and its roles."""

    async def test(served: Served) -> None:
        answer = await served.ask("GET", "/app/whoami", ADMIN, version=False)
        assert answer.json() == {
            "userId": ADMIN.user,
            "identity": ["certificate"],
            "roles": ["Administrator"],
            "certificateId": ADMIN.id,
        }
        assert (await served.ask("GET", "/app/whoami", None)).status_code == 401

    run(world, test)


def test_users_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is longer than a page goes on where it ended."""
    monkeypatch.setattr("kluis.services.ledger.azure.users.PAGE", 2)

    async def test(served: Served) -> None:
        path, found = f"/app/users?{VERSION}", []
        while path:
            page = (await served.ask("GET", path, ADMIN, version=False)).json()
            found += [one["userId"] for one in page["ledgerUsers"]]
            path = page.get("nextLink", "")
        assert len(found) == len(set(found)) == 3

    run(world, test)


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "rubbish",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        of_odd_version(ADMIN.pem),
    ],
)
def test_a_certificate_that_cannot_be_read_is_nobodys(world: World, pem: str) -> None:
    """And neither is one whose key is on no curve."""

    async def test(served: Served) -> None:
        other = Identity("other")
        other.pem = pem
        answer = await served.ask("GET", "/app/users", other)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationInfo")
        key = ed25519.Ed25519PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edwards")])
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        made = made.serial_number(7).not_valid_before(NOW).not_valid_after(NOW.replace(year=2027))
        other.pem = made.sign(key, None).public_bytes(Encoding.PEM).decode()
        assert (await served.ask("GET", "/app/users", other)).status_code == 401

    run(world, test)
