"""Requests to a small service of the test's own: what reaches a handler, and what refusals look like."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
from typing import Any

import msgspec
import pytest

from kluis.enclave.attested_tls.evidence_requests import EvidenceRequests
from kluis.enclave.attested_tls.judge import Peer
from kluis.enclave.attested_tls.link import Link, ServerKey
from kluis.errors import PolicyError, UnavailableError
from kluis.formats.kluis.attested_tls import Role
from kluis.services.web import Answer, Bearer, Call, Gate, Operation, Refusal, Service
from kluis.services.web.telemetry import Telemetry
from tests.services.asking import ask
from tests.services.web.issuer import FixedClock, TokenMaker

SECRET = "a word that must not leave"


class Sum(msgspec.Struct):
    """What the test's operation takes."""

    numbers: list[int]


class Total(msgspec.Struct):
    """What it gives."""

    total: int


def add(call: Call) -> Answer:
    """Add numbers."""
    return Answer(Total(sum(call.json(Sum).numbers)))


def echo(call: Call) -> Answer:
    """Say what came."""
    caller = call.caller.subject if call.caller else None
    return Answer({"path": call.path, "version": call.version, "caller": caller, "target": call.target})


def deny(call: Call) -> Answer:
    """Refuse by a policy."""
    raise PolicyError("colour: want blue, got red", hint="paint it", code="colour")


def bug(call: Call) -> Answer:
    """Have a bug."""
    raise ValueError(SECRET)


def operation(name: str, path: str, handler: Any, method: str = "GET", **rest: Any) -> Operation:
    """One operation."""
    return Operation(name=name, method=method, path=path, handler=handler, summary=f"{name}.", **rest)


OPERATIONS = (
    operation("Add", "/add", add, "POST", body=Sum, result=Total, most_bytes=1000),
    operation("Keyed", "/keys/{name}/{version}", echo),
    operation("Empty", "/keys/{name}//release", echo, "POST"),
    operation("Reset", "/policies/{type}:reset", echo, "POST", access="policy/write"),
    operation("Policy", "/policies/{type}", echo, access="policy/read"),
    operation("Deny", "/deny", deny, versioned=False),
    operation("Bug", "/bug", bug, versioned=False),
)
MAKER = TokenMaker()


class Standing:
    """Whether the service can work."""

    fault: Exception | None = None

    def check(self) -> None:
        """Raise what is wrong."""
        if self.fault:
            raise self.fault


@pytest.fixture
def standing() -> Standing:
    """The service's."""
    return Standing()


@pytest.fixture
def service(standing: Standing) -> Service:
    """The service."""
    roles = {"Reader": frozenset({"policy/read"}), "Writer": frozenset({"policy/read", "policy/write"})}
    clock = FixedClock()
    gate = Gate(Bearer(MAKER.issuer()), roles, clock)
    return Service("sums", "Sums", OPERATIONS, gate=gate, clock=clock, ready=standing.check, version="7.4")


def test_a_request_is_answered(service: Service) -> None:
    """A body is read by its type, and the answer is JSON with the headers that every answer has."""
    answer = ask(service, "POST", "/add?api-version=2022-08-01", json={"numbers": [1, 2], "unknown": None})
    assert (answer.status_code, answer.json()) == (200, {"total": 3})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert len(answer.headers["x-ms-request-id"]) == 32
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "got"),
    [
        ("/KEYS/One/2", {"name": "One", "version": "2"}),
        ("/keys/a%20b/%C3%A9", {"name": "a b", "version": "é"}),
    ],
)
def test_paths_match_in_any_case_and_parameters_come_decoded(service: Service, path: str, got: Any) -> None:
    """Literal segments match in any case of letters; parameters keep theirs."""
    answer = ask(service, "GET", f"{path}?api-version=7.4")
    assert answer.json()["path"] == got
    assert answer.json()["target"] == path


def test_an_empty_segment_counts(service: Service) -> None:
    """Two slashes are not one."""
    assert ask(service, "POST", "/keys/k//release?api-version=7.4").json()["path"] == {"name": "k"}
    assert ask(service, "POST", "/keys//k/release?api-version=7.4").status_code == 404


@pytest.mark.parametrize(
    "path", ["/keys/..%2Fadd/1", "/keys/%2e%2e/1", "/keys/a%00/1", "/keys/%ff/1", "/nowhere", "/keys/a%5Cb/1"]
)
def test_a_path_that_leads_elsewhere_is_none_of_the_services(service: Service, path: str) -> None:
    """Encoded slashes, parents, control characters and what is no UTF-8 are no parameters."""
    answer = ask(service, "GET", f"{path}?api-version=7.4")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "NotFound"


def test_a_colon_may_be_percent_encoded(service: Service) -> None:
    """It is the same path then: RFC 3986 leaves a client the choice."""
    headers = MAKER.header("Writer")
    for colon in (":", "%3A", "%3a"):
        answer = ask(service, "POST", f"/policies/SgxEnclave{colon}reset?api-version=7.4", headers=headers)
        assert (answer.status_code, answer.json()["path"]) == (200, {"type": "SgxEnclave"})


def test_the_version_in_any_case_of_letters(service: Service) -> None:
    """As Azure's services read the names of a query's members."""
    for name in ("api-version", "API-Version", "Api-version"):
        assert ask(service, "GET", f"/keys/a/b?{name}=7.4").json()["version"] == "7.4"


def test_another_method_is_told_which_there_are(service: Service) -> None:
    """405 names the methods that the path has."""
    answer = ask(service, "PUT", "/policies/SgxEnclave?api-version=2022-08-01")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "api-version: want one, got none"),
        ("?api-version=", "api-version: want a date or a number, got ''"),
        ("?api-version=%27%3Bdrop", 'api-version: want a date or a number, got "\';drop"'),
        ("?api-version=x&api-version=7.4", "api-version: want a date or a number, got 'x'"),
    ],
)
def test_a_version_must_be_one(service: Service, query: str, message: str) -> None:
    """A missing or odd api-version is refused with the words for it; of two the first counts."""
    answer = ask(service, "GET", f"/keys/a/b{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == message


def test_a_query_that_is_no_text(service: Service) -> None:
    """Bytes that should have been percent-encoded are the client's fault, and no bug."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/keys/a/b", "raw_path": b"/keys/a/b", "headers": [],
        "query_string": b"api-version=7.4&x=\xff", "scheme": "https", "server": ("127.0.0.1", 1),
    }  # fmt: skip
    asyncio.run(service(scope, receive, send))
    assert sent[0]["status"] == 400
    assert b"query: want it percent-encoded" in sent[1]["body"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body: input data was truncated"),
        (b"[]", "body: expected `object`, got `array`"),
        (b'{"numbers": ["x"]}', "body: expected `int`, got `str` - at `$.numbers[0]`"),
        (b'{"numbers": ' + b"[" * 980, "body: expected `int`, got `array` - at `$.numbers[0]`"),
        (b'{"numbers": [1], "deep": ' + b"[" * 900, "body: input data was truncated"),
        (b"\xff\xfe", "body: JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_a_body_of_another_shape_is_refused(service: Service, body: bytes, message: str) -> None:
    """Malformed JSON, or JSON of another shape, is a 400 with the position."""
    answer = ask(service, "POST", "/add?api-version=2022-08-01", content=body)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": "malformed", "message": message}}


def test_bodies_are_bounded(service: Service) -> None:
    """One byte too many is a 413, before anything is parsed; compressed bodies are unsupported."""
    full = ask(service, "POST", "/add?api-version=2022-08-01", content=b" " * 1001)
    assert (full.status_code, full.json()["error"]["message"]) == (
        413, "body: want at most 1000 bytes, got more",
    )  # fmt: skip
    packed = ask(
        service, "POST", "/add?api-version=2022-08-01", content=b"x", headers={"Content-Encoding": "gzip"}
    )
    assert packed.status_code == 415


def test_our_errors_keep_their_words(service: Service) -> None:
    """A refusal has its code, its message and its fix."""
    answer = ask(service, "GET", "/deny")
    assert answer.status_code == 403
    assert answer.json() == {
        "error": {
            "code": "colour",
            "message": "colour: want blue, got red",
            "details": [{"code": "Hint", "message": "paint it"}],
        }
    }


def test_a_bug_says_nothing(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """What a handler raises by mistake goes to nobody; the log has its class."""
    with caplog.at_level(logging.INFO, "kluis.services"):
        answer = ask(service, "GET", "/bug")
    assert answer.status_code == 500
    assert SECRET not in answer.text + caplog.text
    line = json.loads(caplog.messages[-1])
    assert (line["operation"], line["bug"]) == ("Bug", "ValueError")
    assert line["request_id"] == answer.headers["x-ms-request-id"]


def test_the_log_has_no_path(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Names that callers give stay out of the log."""
    with caplog.at_level(logging.INFO, "kluis.services"):
        ask(service, "GET", "/keys/payroll-2026/1?api-version=7.4")
    assert "payroll" not in caplog.text
    assert json.loads(caplog.messages[-1])["operation"] == "Keyed"


def test_who_has_no_token_is_told_before_anything_is_read(service: Service) -> None:
    """401 comes before the version and the body are looked at."""
    answer = ask(service, "POST", "/policies/SgxEnclave:reset", content=b"x" * (2 << 20))
    assert answer.status_code == 401
    assert answer.json()["error"] == {
        "code": "Unauthorized",
        "message": "Access to /policies/SgxEnclave:reset requires a valid JWT bearer token: got none",
    }


def test_two_tokens_are_none(service: Service) -> None:
    """Of two headers neither is ignored: a proxy may have checked the other one."""
    header = MAKER.header("Reader")["Authorization"]
    for two in ([header, header], [header, "Bearer x"], ["Bearer x", header]):
        answer = ask(
            service, "GET", "/policies/x?api-version=7.4", headers=[("Authorization", one) for one in two]
        )
        assert answer.status_code == 401, two
    coded = [("Content-Encoding", "gzip"), ("Content-Encoding", "identity")]
    assert ask(service, "POST", "/add?api-version=7.4", headers=coded, json={}).status_code == 415


def test_a_role_must_allow_it(service: Service) -> None:
    """A reader may read and not write; the refusal names both."""
    read = ask(service, "GET", "/policies/x?api-version=2022-08-01", headers=MAKER.header("Reader"))
    assert read.json()["caller"] == "somebody"
    write = ask(service, "POST", "/policies/x:reset?api-version=2022-08-01", headers=MAKER.header("Reader"))
    assert write.status_code == 403
    assert write.json()["error"]["message"] == "Reset: want a role that allows policy/write, got ['Reader']"


def test_readiness_is_asked_each_time(service: Service, standing: Standing) -> None:
    """A service that cannot work reports that, and is alive."""
    assert ask(service, "GET", "/health/ready").json() == {"status": "ready"}
    standing.fault = UnavailableError("store: the host gives nothing")
    assert ask(service, "GET", "/health/ready").status_code == 503
    assert ask(service, "GET", "/health/live").status_code == 200


def test_requests_are_counted_by_operation(service: Service) -> None:
    """Metrics name operations and statuses, in Prometheus' format."""
    ask(service, "GET", "/deny")
    text = ask(service, "GET", "/metrics").text
    assert 'kluis_requests_total{operation="Deny",service="sums",status="403"} 1.0' in unlabelled(text)
    assert 'kluis_request_seconds_count{operation="Deny",service="sums"} 1.0' in unlabelled(text)


def test_the_document_has_every_operation(service: Service) -> None:
    """The OpenAPI document names each operation, its parameters, its body and who may ask."""
    document = ask(service, "GET", "/openapi.json").json()
    assert document["paths"]["/add"]["post"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Sum"
    }
    reset = document["paths"]["/policies/{type}:reset"]["post"]
    assert [one["name"] for one in reset["parameters"]] == ["type", "api-version"]
    assert reset["security"] == [{"bearer": []}]
    assert {one.name for one in OPERATIONS} == {
        verb["operationId"] for path in document["paths"].values() for verb in path.values()
    }


def test_a_clients_id_comes_back_if_it_is_one(service: Service) -> None:
    """A client's request id is echoed, and nothing that could split a header is."""
    path = "/deny"
    good = ask(
        service, "GET", path, headers={"x-ms-client-request-id": "0f8fad5b-d9cb-469f-a165-70867728950e"}
    )
    assert good.headers["x-ms-client-request-id"] == "0f8fad5b-d9cb-469f-a165-70867728950e"
    odd = ask(service, "GET", path, headers={"x-ms-client-request-id": "a b"})
    assert "x-ms-client-request-id" not in odd.headers


def test_a_refusal_says_what_it_was_given() -> None:
    """Details, inner code and hint are where Azure's clients look for them."""
    refusal = Refusal(403, "Forbidden", "no", inner="AccessDenied", details=[{"claim": "a"}], hint="b")
    assert refusal.body() == {
        "error": {
            "code": "Forbidden",
            "message": "no",
            "details": [{"claim": "a"}, {"code": "Hint", "message": "b"}],
            "innererror": {"code": "AccessDenied"},
        }
    }


@pytest.mark.parametrize(
    ("sent", "stall_seconds", "status", "code"),
    [(0, 0.1, 408, "stalled"), (11, 300.0, 413, "too_large")],
)
def test_a_body_that_its_server_refuses_is_no_bug(
    service: Service,
    caplog: pytest.LogCaptureFixture,
    sent: int,
    stall_seconds: float,
    status: int,
    code: str,
) -> None:
    """One that stalls, or goes on past the server's bound, is on the log as what its client hears of it."""
    answered: list[Any] = []
    parts = [{"type": "http.request", "body": bytes(sent), "more_body": True}]

    async def run() -> None:
        async def receive() -> Any:
            if not parts:
                await asyncio.Event().wait()
            return parts.pop()

        async def send(message: Any) -> None:
            answered.append(message)

        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/add", "raw_path": b"/add",
            "query_string": b"api-version=7.4", "headers": [],
        }  # fmt: skip
        link = Link(ServerKey().context, Role.SERVER)
        around = EvidenceRequests(
            service, Peer(link), None, max_body_bytes=10, stall_seconds=stall_seconds, slowest_body=1000
        )
        await around(scope, receive, send)

    with caplog.at_level(logging.INFO, "kluis.services"):
        asyncio.run(run())
    assert answered[0]["status"] == status
    line = json.loads(caplog.messages[-1])
    assert (line["operation"], line["status"], line["code"], line.get("bug")) == ("Add", status, code, None)
    text = ask(service, "GET", "/metrics").text
    assert f'kluis_requests_total{{operation="Add",service="sums",status="{status}"}} 1.0' in unlabelled(text)
    # the request for the metrics itself
    assert 'kluis_requests_running{service="sums"} 1.0' in unlabelled(text)


def test_a_request_that_is_cut_off_runs_no_more(service: Service) -> None:
    """A request ended by its client before the answer leaves nothing in the count of running ones."""

    async def run() -> None:
        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            raise AssertionError(message)

        scope = {
            "type": "http", "method": "POST", "path": "/add", "raw_path": b"/add",
            "query_string": b"api-version=7.4", "headers": [],
        }  # fmt: skip
        task = asyncio.create_task(service(scope, receive, send))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert 'kluis_requests_running{service="sums"} 1.0' in unlabelled(ask(service, "GET", "/metrics").text)


def unlabelled(metrics: str) -> str:
    """The counts of one instance, without the label that tells instances apart."""
    assert len(set(re.findall(r'instance="([0-9a-f]{8})"', metrics))) == 1
    return re.sub(r'instance="[0-9a-f]{8}",', "", metrics)


def test_instances_are_told_apart() -> None:
    """Two instances of one service, which answer on one address, label their counts differently."""
    one, other = (Telemetry("sums").metrics().decode() for _ in range(2))
    assert one != other
    assert unlabelled(one) == unlabelled(other)


def test_a_refusal_leaves_no_error_to_the_collector(service: Service) -> None:
    """Its error is freed with the answer: else memory would grow between the collector's rounds."""

    def errors() -> list[object]:
        return [each for each in gc.get_objects() if isinstance(each, Refusal | PolicyError)]

    gc.collect()
    gc.disable()
    try:
        before = len(errors())
        for path in ("/deny", "/nowhere", "/keys/a/b?api-version=1"):
            assert ask(service, "GET", path).status_code >= 400
        assert len(errors()) == before
    finally:
        gc.enable()
