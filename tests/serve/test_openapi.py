"""Whatever is sent that the OpenAPI document describes, or nearly describes, no service fails of it."""

from __future__ import annotations

import ssl
import warnings
from collections import Counter
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from kluis.serve.start import Serving
from tests.serve.conftest import SERVICES

schemathesis = pytest.importorskip("schemathesis")
QUICK, ALL = 1, 5000


class Asked:
    """A client that sends anything that the document allows, as an administrator."""

    def __init__(self, running: Serving, service: str, ca: Path) -> None:
        ca.write_bytes(running.authority.root_pem())
        self.base, self.ca, self.statuses = running.addresses[service], str(ca), Counter[int]()
        context = ssl.create_default_context(cafile=self.ca)
        with httpx.Client(verify=context, timeout=120) as client:
            document = client.get(self.base + "/openapi.json").json()
            assert running.issuer is not None
            form = {
                "grant_type": "client_credentials",
                "client_id": "admin",
                "client_secret": running.issuer.clients["admin"].secret,
                "scope": self.base + "/.default",  # for every operation, whichever plane it is of
            }
            token = client.post(f"{running.issuer.authorization}/oauth2/v2.0/token", data=form).json()
        self.headers = {"Authorization": f"Bearer {token['access_token']}"}
        self.schema = schemathesis.openapi.from_dict(document)

    def all(self, cases: int) -> None:
        """So many cases of every operation."""
        for found in self.schema.get_all_operations():
            self._of(found.ok(), cases)

    def _of(self, operation: object, cases: int) -> None:
        @given(case=operation.as_strategy())  # type: ignore[attr-defined]  # an operation of the library's
        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: object) -> None:
            answer = case.call(base_url=self.base, headers=self.headers, verify=self.ca, timeout=120)  # type: ignore[attr-defined]
            self.statuses[answer.status_code] += 1
            assert answer.status_code < 500, (case, answer.text)

        ask()


def _ask(running: Serving, service: str, folder: Path, cases: int) -> Counter[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        asked = Asked(running, service, folder / "ca.pem")
        asked.all(cases)
    return asked.statuses


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_fails_of_what_is_sent(running: Serving, service: str, tmp_path: Path) -> None:
    """A case of every operation: answered or refused, and some refused."""
    statuses = _ask(running, service, tmp_path, QUICK)
    assert sum(statuses.values()) >= QUICK
    assert any(status >= 400 for status in statuses)


@pytest.mark.slow
def test_five_thousand_cases(running: Serving, tmp_path: Path) -> None:
    """Five thousand cases over all services."""
    total = Counter[int]()
    while sum(total.values()) < ALL:
        for service in SERVICES:
            total += _ask(running, service, tmp_path, 40)
    assert sum(total.values()) >= ALL
