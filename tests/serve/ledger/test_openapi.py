"""Whatever is sent that a ledger's OpenAPI document describes, or nearly describes: no node fails of it."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from kluis.serve.plan import Plan
from tests.serve.ledger.clients import Client
from tests.serve.served import bring_images, serving_here

schemathesis = pytest.importorskip("schemathesis")
ALL, EACH = 5000, 40


class Asked:
    """An administrator that sends anything that the document allows.

    Attributes:
        statuses: of the answers.
    """

    def __init__(self, url: str, client: Client) -> None:
        self.statuses: Counter[int] = Counter()
        self._url, self._client = url, client
        with httpx.Client(verify=client.context(), timeout=120) as http:
            self._schema = schemathesis.openapi.from_dict(http.get(f"{url}/openapi.json").json())

    def send(self, cases: int) -> int:
        """So many cases of every operation; gives how many operations there are."""
        operations = [found.ok() for found in self._schema.get_all_operations()]
        for operation in operations:
            self._send(operation, cases)
        return len(operations)

    def _send(self, operation: Any, cases: int) -> None:
        pem, ca = str(self._client.pem), str(self._client.state / "service_cert.pem")

        @given(case=operation.as_strategy())
        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        def send(case: Any) -> None:
            answer = case.call(base_url=self._url, verify=ca, cert=pem, timeout=120)
            self.statuses[answer.status_code] += 1
            assert answer.status_code < 500, (case, answer.status_code, answer.text)

        send()


def _ask(state: Path, cases: int, total: int) -> tuple[Counter[int], int]:
    bring_images(state)
    client = Client.create(state)
    plan = Plan(services=("ledger",), state=state, port=0, given=client.given)
    with serving_here(plan) as running, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        asked = Asked(running.addresses["ledger"], client)
        operations = 0
        while sum(asked.statuses.values()) < total:
            operations = asked.send(cases)
    return asked.statuses, operations


def test_no_node_fails_of_what_is_sent(tmp_path: Path) -> None:
    """A case of every operation: answered or refused, and some refused."""
    statuses, operations = _ask(tmp_path, 1, 1)
    assert sum(statuses.values()) >= operations > 50
    assert statuses[200]
    assert any(status >= 400 for status in statuses)


@pytest.mark.slow
def test_five_thousand_cases(tmp_path: Path) -> None:
    """Five thousand cases over all operations."""
    statuses, operations = _ask(tmp_path, EACH, ALL)
    print(f"{dict(statuses)} of {operations} operations")
    assert sum(statuses.values()) >= ALL
