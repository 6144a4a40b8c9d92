"""What a proposal would change, before anybody votes: as it then does, and nothing is changed by asking."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kluis.formats.ccf import tables
from kluis.ledger.governance.explain import Change, explain
from tests.ledger.governance.consortium import NOW, Consortium, Party, opened

USER = Party(54, encrypts=False)
# Made with the service's key, or at random: it is described, and not shown.
MADE = {tables.RECOVERY_SHARES, tables.PAST_SECRETS, tables.IDENTITY_ENDORSEMENT}


def told(consortium: Consortium, *actions: dict[str, Any]) -> Any:
    version = consortium.store.version
    found = explain(consortium.store, json.dumps({"actions": list(actions)}))
    assert consortium.store.version == version
    return found


@pytest.mark.parametrize(
    ("name", "args", "effects"),
    [
        ("set_user", {"cert": USER.certificate, "user_data": {"a": 1}}, 0),
        ("set_recovery_threshold", {"recovery_threshold": 2}, 1),
        ("remove_member", {"member_id": "$member"}, 2),
        ("trigger_ledger_rekey", None, 2),
        ("trigger_ledger_chunk", None, 1),
        ("remove_user", {"user_id": USER.id}, 0),
    ],
)
def test_it_comes_true(name: str, args: Any, effects: int) -> None:
    """The rows that are listed are those that the accepted proposal changes."""
    consortium = opened(3)
    if args and args.get("member_id"):
        args = {"member_id": consortium.members[2].id}
    action = {"name": name, "args": args}
    found = told(consortium, action)
    begun = consortium.store.begin()
    before = {table: dict(begun.items(table)) for table in consortium.store.tables()}
    consortium.accept(action, created_at=NOW + 1)
    own = {tables.COSE_HISTORY, tables.PROPOSALS, tables.PROPOSALS_INFO, *MADE}
    writes = consortium.entries[-1].writes

    assert found.invalid is None
    assert found.failure is None
    assert len(found.effects) == effects
    assert list(found.changes) == [
        Change(table, key, was, value)
        for table in sorted(writes.keys() - own)
        for key, value in sorted(writes[table].items())
        if (was := before.get(table, {}).get(key)) != value
    ]


def test_opening() -> None:
    """The status changes, and the node's part is listed."""
    consortium = Consortium(1)
    consortium.activate()
    identity = {"next_service_identity": consortium.certificate}
    action = {"name": "transition_service_to_open", "args": identity}
    found = told(consortium, action)
    ((change,), effects) = found.changes, found.effects
    assert json.loads(change.after)["status"] == "Open"
    assert effects[0] == "the service opens: applications are served"
    assert told(opened(1), action).effects == ("the service is Open already, and stays so",)


def test_what_would_not_be() -> None:
    """An invalid proposal, and one that could not be applied, say why."""
    consortium = opened()
    assert told(consortium, {"name": "no_such"}).invalid == "no_such: no such action"
    failing = told(consortium, {"name": "set_recovery_threshold", "args": {"recovery_threshold": 9}})
    assert failing.failure is not None
    assert "more than the 3 active recovery members" in failing.failure
    assert failing.changes == ()
    assert explain(consortium.store, "no JSON").invalid is not None
    assert explain(consortium.store, '{"actions": [{"name": "set_user", "args": 1}]}').invalid is not None


def test_an_endless_constitution() -> None:
    """Asking ends."""
    source = """export const validate = () => ({valid: true, description: ""});
        export const resolve = () => "Open";
        export function apply() { while (true) {} }"""
    consortium = Consortium(1, constitution=source)
    assert "too long" in (explain(consortium.store, "{}").failure or "")
