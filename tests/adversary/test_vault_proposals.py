"""An operator, whose proposal for a vault reads as one set of authorities to a person, and is another."""

from __future__ import annotations

import json

import pytest

from tests.services.keyvault.vault.test_trust import ADMINISTRATOR, ELSEWHERE, OTHER, document
from tests.services.keyvault.world import PINNED, World


@pytest.fixture
def world() -> World:
    """A vault with a key."""
    made = World((PINNED,))
    made.exportable("soft")
    return made


@pytest.mark.parametrize("within", [False, True])
def test_a_set_in_which_a_member_is_there_twice(world: World, within: bool) -> None:
    """Of two members of one name, readers take the first or the last: no such document is approved."""
    shown, meant = (document(world, each)["authorities"] for each in (ELSEWHERE, OTHER))
    issuer = json.dumps(document(world, PINNED)["issuer"])
    if within:
        first, last = (json.dumps(each[0]["jwks"]) for each in (shown, meant))
        listed = json.dumps(shown).replace(f'"jwks": {first}', f'"jwks": {first}, "jwks": {last}', 1)
        text = f'{{"authorities": {listed}, "issuer": {issuer}}}'
    else:
        listed, last = (json.dumps(each) for each in (shown, meant))
        text = f'{{"authorities": {listed}, "issuer": {issuer}, "authorities": {last}}}'
    status, code, message, _ = world.refused(
        "PUT", "/configuration/next", text.encode(), roles=(ADMINISTRATOR,)
    )
    name = "jwks" if within else "authorities"
    assert (status, code) == (400, "BadParameter")
    assert message == f"trust: key '{name}' appears twice"
    assert world.ok("GET", "/configuration", api=None)["next"] is None
