"""Handlers that wait without a thread, ids with colons, and certificates of clients."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from kluis.services.web import Answer, Call, Caller, Gate, Operation, Service
from tests.services.asking import ask
from tests.services.web.issuer import FixedClock

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


class CertificateGate(Gate):
    """Lets in whoever has a certificate."""

    def admit_client(
        self, operation: Operation, target: str, headers: Mapping[str, str], certificates: Sequence[str]
    ) -> Caller | None:
        """A caller named by how many certificates it has."""
        return Caller(str(len(certificates)), frozenset(), {})


async def wait(call: Call) -> Answer:
    """Say in which thread it runs, and what came."""
    caller = call.caller.subject if call.caller else None
    main = threading.current_thread() is threading.main_thread()
    return Answer({"main": main, "id": call.path["id"], "caller": caller, "pem": list(call.certificates)})


def _service() -> Service:
    clock, numbers = FixedClock(), iter(range(100))

    def operation(name: str, path: str) -> Operation:
        query = {"tag": False}
        return Operation(
            name=name, method="GET", path=path, handler=wait, summary=name, query=query, versioned=False
        )

    operations = (operation("Get", "/users/{id*}"), operation("Ballot", "/proposals/{id}:submit"))
    return Service(
        "waiting",
        "Waiting",
        operations,
        gate=CertificateGate(None, {}, clock),
        clock=clock,
        ready=lambda: None,
        headers=lambda: {"x-number": str(next(numbers))},
    )


def _with_certificates(application: Any, *pems: str) -> Any:
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await application({**scope, "extensions": {"tls": {"client_cert_chain": list(pems)}}}, receive, send)

    return asgi


def test_a_coroutine_waits_in_the_loop_and_its_id_may_have_colons() -> None:
    """Both as it was sent and percent-encoded; an id without a star has none."""
    service = _service()
    for sent in ("AB:CD:01", "AB%3ACD%3A01"):
        answer = ask(_with_certificates(service, PEM, PEM), "GET", f"/users/{sent}")
        assert answer.json() == {"main": True, "id": "AB:CD:01", "caller": "2", "pem": [PEM, PEM]}
    assert ask(service, "GET", "/proposals/1:submit").json()["id"] == "1"
    assert ask(service, "GET", "/proposals/1:2:submit").status_code == 404


def test_headers_may_be_new_for_each_answer() -> None:
    """Refusals have them, too."""
    service = _service()
    numbers = [ask(service, "GET", path).headers["x-number"] for path in ("/users/1", "/nothing")]
    assert numbers == ["0", "1"]


def test_the_document_names_the_parameters() -> None:
    """A star is this service's own; the query's parameters are named where an operation does so."""
    document = ask(_service(), "GET", "/openapi.json").json()
    listed = document["paths"]["/users/{id}"]["get"]["parameters"]
    assert [(one["name"], one["in"], one["required"]) for one in listed] == [
        ("id", "path", True),
        ("tag", "query", False),
    ]
