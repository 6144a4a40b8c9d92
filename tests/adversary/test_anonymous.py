"""What anybody may send an attestation service takes little of its time and memory, whatever it holds."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kluis.enclave.store import SealedStore
from kluis.errors import PolicyError
from kluis.serve.store import Database, keeping
from kluis.services.attestation import attesting, handlers
from kluis.services.attestation.policies.evaluation import evaluate_policy
from kluis.services.attestation.policies.policies import HeldPolicy, hold_draft
from tests.pace import within
from tests.services.attestation.test_attesting import sgx
from tests.services.attestation.world import PERMIT, VERSION, World, b64u, error_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One service for all of them."""
    with Database(f"sqlite:///{tmp_path_factory.mktemp('anonymous')}/db") as database:
        yield World(SealedStore(keeping.records(database, "test"), bytes(32)))


def test_a_name_that_stands_twice_at_the_end_of_many(world: World) -> None:
    """Looking for it takes one pass: each name among all the others was 20 s for 256 KiB."""
    names = ",".join(f'"{number:x}":0' for number in range(28_000))
    text = f'{{{names},"zz":0,"zz":1}}'.encode()
    with within(2):
        answer = world.attest(
            "SgxEnclave", {"quote": "AAAA", "runtimeData": {"data": b64u(text), "dataType": "JSON"}}
        )
    assert error_of(answer) == (400, "InvalidParameter", "runtimeData.data: member 'zz' appears twice")


@pytest.mark.parametrize("unit", ['{"":0}', "[]", "0"])
def test_a_guest_of_a_million_values(world: World, unit: str) -> None:
    """They are counted before they are read: 3 MiB of small objects were more than a heap holds."""
    text = f'{{"z":[{",".join([unit] * 300_000)}]}}'.encode()
    answer = world.attest("AzureGuest", {"AttestationInfo": b64u(text)})
    assert error_of(answer) == (
        400,
        "InvalidParameter",
        "AttestationInfo: want at most 262144 values, got more",
    )


def test_members_that_are_passed_over_are_not_made(world: World) -> None:
    """A body's other members cost what their text does, and no objects."""
    body = b'{"quote":"AAAA","z":[' + b",".join([b"[]"] * 1_000_000) + b"]}"
    tracemalloc.start()
    try:
        answer = world.ask("POST", f"/attest/SgxEnclave?{VERSION}", content=body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert json.loads(answer.content)["error"]["innererror"]["code"] == "bad_version"
    assert peak < 10 * len(body)


NUMBERS = ",".join(map(str, range(1000, 5000)))
CLAIMED = f'version=1.2; authorizationrules{{ =>add(type="x",value=JsonToClaimValue("[{NUMBERS}]"));'


def test_a_refusal_of_a_draft_is_not_what_all_its_rules_saw() -> None:
    """A refusal lists only some of what the unmet rules saw: all of it was 31 MB here."""
    rules = '[type=="x",value==0]=>permit();' * 240
    policy = hold_draft(f"{CLAIMED}{rules}}}; issuancerules{{}};")
    tracemalloc.start()
    try:
        with pytest.raises(PolicyError, match="A Deny claim was issued"):
            evaluate_policy(policy, {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_what_an_unmet_condition_names_is_looked_up() -> None:
    """A condition of thousands of names is reported without a search of all claims for each."""
    copies = "".join(f'c:[type=="x"]=>add(type="{name}",value=c.value);' for name in "yzw")
    names = ",".join(['type=="q"'] * 4000)
    policy = hold_draft(f"{CLAIMED}{copies}[{names}]=>permit();}}; issuancerules{{}};")
    with within(0.4), pytest.raises(PolicyError, match="A Deny claim was issued"):
        evaluate_policy(policy, {})


def test_many_who_send_all_but_the_end(world: World) -> None:
    """A hundred bodies of 4 MiB that never end take 64 MiB, and the next client is answered as ever."""

    async def run() -> tuple[int, list[int]]:
        statuses: list[int] = []

        async def stalling() -> None:
            parts = [bytes(64 << 10)] * 63

            async def receive() -> MutableMapping[str, Any]:
                if not parts:
                    await asyncio.Event().wait()
                return {"type": "http.request", "body": parts.pop(), "more_body": True}

            async def send(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            await world.app(_scope("/attest/SgxEnclave"), receive, send)

        others = [asyncio.create_task(stalling()) for _ in range(100)]
        while len(statuses) < 84:
            await asyncio.sleep(0.01)
        told = list(statuses)
        answered = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b'{"quote":"AAAA"}', "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])

        await world.app(_scope("/attest/SgxEnclave"), receive, send)
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        return answered[0], told

    answered, told = asyncio.run(asyncio.wait_for(run(), 300))
    assert (answered, told) == (400, [503] * 84)


def _scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": VERSION.encode(),
        "headers": [(b"host", b"localhost:8443")],
    }


def test_one_draft_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's policy takes a second: while one is evaluated, the threads serve only evidence."""
    monkeypatch.setattr(handlers, "DRAFT_SECONDS", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    def slow(text: str) -> HeldPolicy:
        begun.set()
        assert go_on.wait(300)
        return hold_draft(text)

    monkeypatch.setattr(attesting, "hold_draft", slow)
    asked = sgx() | {"draftPolicyForAttestation": PERMIT}
    with ThreadPoolExecutor() as pool:
        first = pool.submit(world.attest, "SgxEnclave", asked)
        assert begun.wait(300)
        second = world.attest("SgxEnclave", asked)
        assert world.attest("SgxEnclave", sgx()).status_code == 200
        go_on.set()
        assert first.result().status_code == 200
    assert error_of(second) == (
        503,
        "ServerBusy",
        "draftPolicyForAttestation: want one at a time, got one more",
    )
    assert second.headers["retry-after"] == "1"
    assert world.attest("SgxEnclave", asked).status_code == 200
