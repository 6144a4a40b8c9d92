"""The proxy forwards to the required enclave only: never before its verdict, and not after it expired."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest

from kluis.appraisal import BySigner
from kluis.connect.limits import Limits
from kluis.enclave.attested_tls.judge import Judge
from kluis.errors import AuthenticityError, KluisError, PolicyError, UnavailableError
from kluis.evidence import Collateral, TrustAnchors
from kluis.formats.kluis.attested_tls import PATH, Question
from kluis.testing.rehearsal import RehearsalPlatform
from tests.connect.chatting import Ended, chat
from tests.connect.conftest import APP
from tests.connect.relaying import Middle, Switch
from tests.connect.running import PATIENT, SECONDS, parsed, running
from tests.enclave.hosted.policies import judge_of, rehearsed
from tests.enclave.hosted.serving import Served

SECRET = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\nConnection: close\r\n\r\na secret"
HASTY = dataclasses.replace(PATIENT, retry_seconds=0.2)
SHORT = 8.0
"""Seconds for which evidence is believed; a slow machine verifies it several times within them."""


@pytest.fixture(scope="module")
def other(rehearsal_platform: RehearsalPlatform) -> Iterator[Served]:
    """The same application of another signer, as a host would replace an enclave by its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        enclave = rehearsal_platform.launch(APP, sockets={"listen:web": listener}, signer=b"\1" * 32)
        try:
            yield Served(enclave, listener)
        finally:
            enclave.close()


def error_of(answer: bytes) -> tuple[int, str, str]:
    """Status, code and message of the proxy's own answer."""
    status, _, body = parsed(answer)
    said = json.loads(body)["error"]
    return status, said["code"], said["message"]


def refused_at_start(judge: Judge, port: int) -> KluisError:
    """The error of a proxy that does not start."""
    with pytest.raises(KluisError) as refused, running(judge, port):
        pass
    return refused.value


def test_another_image_is_never_connected(other: Served, judge: Judge) -> None:
    """A proxy to another enclave than the policy's does not start, and the enclave hears nothing."""
    before = other.enclave.told()
    assert isinstance(refused := refused_at_start(judge, other.port), PolicyError)
    assert "signer" in refused.message
    assert other.enclave.told() == before


def test_another_platform_is_never_connected(served: Served, other_platform: RehearsalPlatform) -> None:
    """Evidence under a root that is not trusted is refused."""
    assert isinstance(refused_at_start(judge_of(other_platform), served.port), AuthenticityError)


def test_a_man_in_the_middle(served: Served, judge: Judge) -> None:
    """A relay that ends TLS and forwards the genuine evidence is refused, and hears no request."""
    with Middle(served.port) as middle:
        refused = refused_at_start(judge, middle.port)
        assert refused.code == "channel_exporter"
        heard = b"".join(middle.heard)
    assert heard.count(b"HTTP/1.1") == 1
    assert PATH.encode() in heard


def test_evidence_from_before(served: Served, judge: Judge) -> None:
    """A relay that recorded an answer, and sends it again, is refused: it is for another nonce."""
    kept: list[bytes] = []
    with served.plain_tls() as tls:
        asked = Question(bytes(32)).encode()
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (PATH.encode(), len(asked))
        tls.sendall(head + asked)
        kept.append(tls.recv(1 << 20))
        assert kept[0].startswith(b"HTTP/1.1 200 ")
    with Middle(served.port) as middle:
        middle.answer = lambda said: kept[0]
        refused = refused_at_start(judge, middle.port)
    assert refused.code == "nonce"


def test_nothing_is_forwarded_before_the_verdict(served: Served, judge: Judge) -> None:
    """While the first verification takes its time, no client is accepted, and no byte goes on."""
    with Switch(served.port) as switch:
        before = served.enclave.told()
        asked: list[int] = []

        def standing() -> object:
            time.sleep(0.5)
            asked.append(len(served.enclave.told()))
            return judge.standing()

        slow = dataclasses.replace(judge, standing=standing)  # type: ignore[arg-type]
        with running(slow, switch.port) as proxy:
            assert asked == [len(before)]
            assert proxy.exchange(SECRET).startswith(b"HTTP/1.1 200 ")


def test_a_replaced_enclave(served: Served, other: Served, judge: Judge) -> None:
    """What takes the enclave's place is judged and refused, with an error that tools show."""
    with Switch(served.port) as switch, running(judge, switch.port, limits=HASTY) as proxy:
        assert proxy.exchange(SECRET).startswith(b"HTTP/1.1 200 ")
        before = other.enclave.told()
        switch.target = other.port
        switch.cut()
        for _ in range(3):
            status, code, message = error_of(proxy.exchange(SECRET))
            assert (status, code) == (502, "signer")
            assert message.startswith("the enclave is refused: ")
            assert "signer" in message
        with pytest.raises(Ended) as ended, chat(proxy.port, "/socket"):
            pass
        assert ended.value.code == 502
        assert other.enclave.told() == before
        assert any("not verified" in each for each in proxy.reports)
        switch.target = served.port
        until = time.monotonic() + SECONDS
        while not proxy.exchange(SECRET).startswith(b"HTTP/1.1 200 "):
            assert time.monotonic() < until
            time.sleep(0.1)
        assert proxy.reports[-1] == "the enclave meets the policy again"


def test_a_refusal_ends_kept_connections(served: Served, other: Served, judge: Judge) -> None:
    """A connection that finishes its request after the refusal carries no other one."""
    with (
        Switch(served.port) as switch,
        running(judge, switch.port, limits=HASTY) as proxy,
        httpx.Client(base_url=proxy.url, timeout=SECONDS) as client,
    ):
        with client.stream("GET", "/events") as held:
            parts = held.iter_raw()
            assert next(parts) == b"data: one\n\n"
            switch.target = other.port
            assert httpx.get(proxy.url, timeout=SECONDS).status_code == 502
            with served.plain_tls() as direct:
                direct.sendall(b"POST /gate HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                assert b"".join(parts) == b"data: two\n\n"
        assert client.get("/").status_code == 502


def test_an_expired_verdict(served: Served, judge: Judge) -> None:
    """Once the verdict expires, an open connection gets no request, and the reason is named."""
    with (
        Switch(served.port) as switch,
        running(judge, switch.port, believed_seconds=SHORT, limits=HASTY) as proxy,
    ):
        with chat(proxy.port, "/socket") as made:
            assert proxy.exchange(SECRET).startswith(b"HTTP/1.1 200 ")  # over a connection that is kept
            switch.target = None  # new connections end at once; the open ones stay
            until = time.monotonic() + SECONDS
            verdict = proxy.proxy.enclave.verdict
            assert verdict is not None
            while verdict.age_seconds < SHORT + 0.5:
                time.sleep(0.1)
            before = served.enclave.told()
            status, _, message = error_of(proxy.exchange(SECRET))
            assert status in (502, 503)
            assert "verdict expired" in message
            assert served.enclave.told().count("/echo") == before.count("/echo")
            with pytest.raises(Ended):
                made.hear()
            assert time.monotonic() < until
        assert "a WebSocket was closed: its enclave's verdict expired" in proxy.reports


def test_a_verdict_is_renewed(served: Served, judge: Judge) -> None:
    """The enclave is verified again before its verdict expires, without a request."""
    with running(judge, served.port, believed_seconds=SHORT) as proxy:
        first = proxy.proxy.enclave.verdict
        assert first is not None
        until = time.monotonic() + SECONDS
        while proxy.proxy.enclave.verdict is first:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert proxy.proxy.enclave.verdict is not None
        assert proxy.proxy.enclave.verdict.judged < first.until + 5


def test_a_slow_answer_does_not_extend_a_verdict(served: Served, judge: Judge) -> None:
    """Evidence ages from its request on: one that takes longer than it is valid permits no request."""

    def late() -> tuple[TrustAnchors, Collateral, datetime]:
        time.sleep(1.2)
        return judge.standing()

    slow = dataclasses.replace(judge, standing=late)
    with (
        pytest.raises(UnavailableError) as refused,
        running(slow, served.port, believed_seconds=1.0),
    ):
        pass
    assert "evidence is valid for 1" in refused.value.message
    with running(slow, served.port) as proxy:
        verdict = proxy.proxy.enclave.verdict
        assert verdict is not None
        assert verdict.age_seconds >= 1.2


def test_a_revocation_counts_at_once(served: Served, judge: Judge, other_platform: RehearsalPlatform) -> None:
    """A verification that finds the platform no longer trusted stops new requests before the verdict ends."""
    given = [judge.standing, judge_of(other_platform).standing]
    changing = dataclasses.replace(judge, standing=lambda: (given.pop(0) if len(given) > 1 else given[0])())
    with running(changing, served.port, believed_seconds=SHORT, limits=HASTY) as proxy:
        until = time.monotonic() + SECONDS
        while not proxy.reports:
            assert time.monotonic() < until
            time.sleep(0.05)
        status, code, _ = error_of(proxy.exchange(SECRET))
        assert (status, code) == (502, "root_untrusted")


def test_an_enclave_that_is_gone(served: Served, judge: Judge) -> None:
    """Nobody at the address is an error that names it; the proxy goes on once the enclave is back."""
    with Switch(served.port) as switch, running(judge, switch.port, limits=HASTY) as proxy:
        switch.target = None
        switch.cut()
        assert error_of(proxy.exchange(SECRET))[0] in (502, 503)
        switch.target = served.port
        until = time.monotonic() + SECONDS
        while not proxy.exchange(SECRET).startswith(b"HTTP/1.1 200 "):
            assert time.monotonic() < until
            time.sleep(0.1)


def test_nobody_at_the_address(judge: Judge) -> None:
    """A proxy to nobody does not start, and names the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    refused = refused_at_start(judge, port)
    assert isinstance(refused, UnavailableError)
    assert refused.message == f"enclave https://127.0.0.1:{port}: Connection refused"


def test_a_policy_that_rejects_every_signer(served: Served, rehearsal_platform: RehearsalPlatform) -> None:
    """The identity in the policy counts, and not the address."""
    wanted = rehearsed(BySigner(signers=frozenset({b"\2" * 32}), product_id=5, min_svn=1))
    assert isinstance(refused_at_start(judge_of(rehearsal_platform, wanted), served.port), PolicyError)


def test_a_server_that_says_nothing(judge: Judge) -> None:
    """A server that accepts and is silent is given up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        brief = Limits(open_seconds=1.0)
        with (
            pytest.raises(UnavailableError) as refused,
            running(judge, silent.getsockname()[1], limits=brief),
        ):
            pass
    assert "no answer in 1 seconds" in refused.value.message
