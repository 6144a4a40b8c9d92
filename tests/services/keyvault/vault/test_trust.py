"""Whom a vault believes changes by an administrator's consent, and what a policy means by its key's own."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kluis.errors import FormatError, PolicyError, UnavailableError, UsageError
from kluis.formats.encoding import b64
from kluis.services.keyvault.app import service
from kluis.services.keyvault.release.engine import CHANGED, UNMET
from kluis.services.keyvault.vault import trust
from kluis.services.keyvault.vault.authorities import Attested, ByImages, Pinned, canonical
from kluis.services.keyvault.vault.trust import Trust, meaning, meanings
from kluis.services.web import Issuer
from tests.services.keyvault.world import (
    AUTHORITY,
    OTHER_KEY,
    PINNED,
    World,
    certificate,
    claims,
    jwks,
    policy,
    sign,
)

ADMINISTRATOR = "Key Vault Administrator"
# The same name, and somebody else behind it.
OTHER = Pinned(AUTHORITY, json.dumps(jwks(x5c=[b64.encode(certificate(OTHER_KEY))])))
ELSEWHERE = Pinned("https://elsewhere.example", PINNED.jwks)


def again(world: World, *authorities: Pinned) -> World:
    """The vault of a world, started under these authorities."""
    return World(authorities, storage=world.storage, clock=world.clock, maker=world.maker)


def document(world: World, *authorities: Pinned) -> dict[str, Any]:
    """What a start of a world's vault under these authorities would have to have approved."""
    made: dict[str, Any] = json.loads(
        trust.proposal(Trust(canonical(authorities), world.settings.pinned_issuer()))
    )
    return made


def approved(world: World, *authorities: Pinned) -> Any:
    """Have an administrator approve a set."""
    return world.ok("PUT", "/configuration/next", document(world, *authorities), roles=(ADMINISTRATOR,))


@pytest.fixture
def world() -> World:
    """A vault with one key, whose policy may change, and one whose policy may not."""
    made = World((PINNED,))
    made.exportable("soft")
    made.exportable("hard", immutable=True)
    return made


def released(world: World, name: str, key: Any = None) -> tuple[int, str]:
    """Request a key with an assertion signed by ``key``: status, and the reason of a refusal."""
    token = sign(claims()) if key is None else sign(claims(), key=key)
    answer = world.release(token, name)
    return answer.status_code, "" if answer.status_code == 200 else json.dumps(answer.json())


def test_no_start_alone_changes_anything(world: World) -> None:
    """Without consent the vault starts unchanged, whatever else was approved."""
    with pytest.raises(PolicyError) as refused:
        again(world, OTHER)
    assert refused.value.code == "vault_trust"
    approved(world, PINNED, ELSEWHERE)
    with pytest.raises(PolicyError):
        again(world, OTHER)
    with pytest.raises(PolicyError):
        again(world, ELSEWHERE)
    assert released(again(world, PINNED), "hard")[0] == 200


def test_an_approved_set_is_adopted_once(world: World) -> None:
    """A start under exactly that set is taken; the way back wants consent as well. All of it is on record."""
    told = approved(world, OTHER)
    assert [each["at"] for each in told["changes"]] == ["authorities.0.jwks"]
    assert world.ok("GET", "/configuration", api=None)["next"] == told["next"]
    new = again(world, OTHER)
    shown = new.ok("GET", "/configuration", api=None)
    assert (shown["trust"], shown["next"], len(shown["earlier"])) == (told["next"], None, 1)
    assert shown["vault"] == world.ok("GET", "/configuration", api=None)["vault"]
    with pytest.raises(PolicyError):
        again(new, PINNED)
    entries = new.ok("GET", "/audit", roles=(ADMINISTRATOR,))["value"]
    last = [(each["operation"], each["target"], each["subject"]) for each in entries[-2:]]
    subject = entries[0]["subject"]
    assert last == [("trust-approve", told["next"], subject), ("trust-adopt", told["next"], subject)]


def test_a_set_that_does_not_start_is_not_adopted(world: World) -> None:
    """Malformed keys are reported before a vault adopts them: nobody could then approve others."""
    broken = Pinned("https://elsewhere.example", '{"keys":[]}')
    approved(world, PINNED, broken)
    with pytest.raises(UsageError, match=r"authority https://elsewhere\.example: JWKS: want 1 to 32 keys"):
        again(world, PINNED, broken)
    issuer = Issuer("https://issuer.example", ("https://vault.example",), '{"keys":[]}')
    settings = msgspec.structs.replace(world.settings, issuer=issuer)
    wanted = Trust(canonical((PINNED,)), settings.pinned_issuer())
    asked = json.loads(trust.proposal(wanted))
    world.ok("PUT", "/configuration/next", asked, roles=(ADMINISTRATOR,))
    with pytest.raises(FormatError, match=r"issuer\.keys: want public keys, got none or others"):
        service(settings, world.storage, world.clock, fetch=world.host.fetch)
    assert released(again(world, PINNED), "hard")[0] == 200


def test_an_instance_from_before_keeps_nothing_more(world: World) -> None:
    """One that still runs under the old set neither changes a key nor releases one."""
    approved(world, OTHER)
    again(world, OTHER)
    assert world.refused("POST", "/keys/x/create", {"kty": "EC"})[0] == UnavailableError.http_status
    assert released(world, "soft")[0] == UnavailableError.http_status


def test_no_policy_learns_to_believe_somebody_new(world: World) -> None:
    """A key goes on meaning the authority of its policy's day: the new one of that name gets neither key."""
    approved(world, OTHER)
    new = again(world, OTHER)
    for name in ("soft", "hard"):
        status, said = released(new, name, OTHER_KEY)
        assert status == 403
        assert UNMET in said
        assert CHANGED in said


def test_what_an_instance_means() -> None:
    """An instance is what its service is in a set, if that is attested; a longer path of others is nobody."""
    url = "https://attest.example"
    enclave = Attested(
        url=url, roots=("pem",), identity=ByImages(("ab" * 32,)), levels=("process",), settings=("cd" * 32,)
    )
    known = meanings(Trust(canonical((enclave,)), b"{}"))
    assert meaning(known, f"{url}/instances/p1") == meaning(known, url) == known[url]
    for other in (
        f"{url}/instances",
        f"{url}/instances/a/b",
        f"{url}/instances/{'a' * 25}",
        f"{url}x/instances/p1",
    ):
        assert meaning(known, other) is None
    assert meaning(meanings(Trust(canonical((PINNED,)), b"{}")), f"{AUTHORITY}/instances/p1") is None


def test_a_policy_that_is_set_anew_means_what_is_there_now(world: World) -> None:
    """An officer may set a mutable policy again; an immutable one keeps its meaning permanently."""
    approved(world, OTHER)
    new = again(world, OTHER)
    rule = {"release_policy": {"data": b64.encode_url(policy())}}
    new.ok("PATCH", "/keys/soft/", rule)
    assert released(new, "soft", OTHER_KEY)[0] == 200
    rule["release_policy"] |= {"immutable": True}  # type: ignore[dict-item]
    new.ok("PATCH", "/keys/hard/", rule)  # the very policy that it has, which Azure takes
    assert released(new, "hard", OTHER_KEY)[0] == 403
    new.ok("POST", "/keys/hard/rotate")
    assert released(new, "hard", OTHER_KEY)[0] == 403
    new.exportable("fresh")
    assert released(new, "fresh", OTHER_KEY)[0] == 200


def test_the_way_back_opens_what_waited(world: World) -> None:
    """By consent again the vault believes as before, and keys of that day are released as they were."""
    approved(world, OTHER)
    new = again(world, OTHER)
    approved(new, PINNED)
    back = again(new, PINNED)
    assert released(back, "hard")[0] == 200
    assert released(back, "hard", OTHER_KEY)[0] == 403


def test_an_authority_that_stays_is_believed_on(world: World) -> None:
    """If one is added, a key is released as before; the added one gets none."""
    approved(world, PINNED, ELSEWHERE)
    new = again(world, PINNED, ELSEWHERE)
    assert released(new, "hard")[0] == 200
    world = World((PINNED,))
    world.exportable("both", policy(authority=ELSEWHERE.url), immutable=True)
    approved(world, PINNED, ELSEWHERE)
    token = sign(claims(iss=ELSEWHERE.url))
    assert CHANGED in again(world, PINNED, ELSEWHERE).release(token, "both").text


def test_a_backup_keeps_its_meaning(world: World) -> None:
    """A key that is restored is as it was: its policy means the authority of its day."""
    blob = world.ok("POST", "/keys/soft/backup")
    approved(world, OTHER)
    new = again(world, OTHER)
    new.ok("DELETE", "/keys/soft")
    new.ok("DELETE", "/deletedkeys/soft")
    new.ok("POST", "/keys/restore", blob)
    assert released(new, "soft", OTHER_KEY)[0] == 403


@pytest.mark.parametrize("roles", [(), ("Key Vault Crypto Officer",), ("Managed HSM Crypto User",)])
def test_who_may_not_consent(world: World, roles: tuple[str, ...]) -> None:
    """Nobody but an administrator approves or withdraws."""
    for method in ("PUT", "DELETE"):
        answer = world.send(method, "/configuration/next", document(world, OTHER), roles=roles)
        assert answer.status_code == (403 if roles else 401)
    with pytest.raises(PolicyError):
        again(world, OTHER)


def test_what_was_approved_is_withdrawn_or_replaced(world: World) -> None:
    """What is taken back, or replaced, no start adopts."""
    approved(world, OTHER)
    for _ in range(2):
        world.ok("DELETE", "/configuration/next", roles=(ADMINISTRATOR,))
    with pytest.raises(PolicyError):
        again(world, OTHER)
    approved(world, OTHER)
    approved(world, ELSEWHERE)
    with pytest.raises(PolicyError):
        again(world, OTHER)
    assert again(world, ELSEWHERE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"authorities": [{"type": "other"}]}, "trust.authorities: Invalid value 'other' - at `$[0].type`"),
        (
            {"authorities": [{"type": "pinned", "url": "http://a", "jwks": ""}]},
            "authorities: authority: want an",
        ),
        (
            {"issuer": "anybody"},
            "trust.issuer: want url, audiences and keys, or insecure_changing_issuer, got",
        ),
        (
            {"issuer": {"url": "https://a"}},
            "trust.issuer: want url, audiences and keys, or insecure_changing",
        ),
        ({}, "trust: want another set than the one that the vault has, got the same"),
    ],
)
def test_what_is_no_set(world: World, change: dict[str, Any], message: str) -> None:
    """A set that no start could have is refused, and named; so is the one that there is."""
    body = document(world, PINNED) | change
    status, _, said, _ = world.refused("PUT", "/configuration/next", body, roles=(ADMINISTRATOR,))
    assert (status, said[: len(message)]) == (400, message)


def test_a_vault_without_keys_needs_no_consent() -> None:
    """It starts under any set, so there is nothing to approve."""
    world = World((PINNED,))
    answer = world.send("PUT", "/configuration/next", document(world, OTHER), roles=(ADMINISTRATOR,))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "Conflict")
    assert again(world, OTHER)
