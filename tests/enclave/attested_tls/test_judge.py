"""Two rehearsed enclaves, each of which verifies the other before it sends anything."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import httpcore
import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException

from kluis.appraisal import BySigner
from kluis.appraisal.policy.model import PLATFORM_LEVELS
from kluis.enclave.attested_tls import judge as channel
from kluis.enclave.attested_tls.client import AttestedTransport
from kluis.enclave.attested_tls.evidence_requests import attested_peer
from kluis.enclave.attested_tls.introduction import ClientEnd
from kluis.enclave.attested_tls.judge import Judge, Peer
from kluis.enclave.attested_tls.link import Link, ServerKey, client_context
from kluis.enclave.attested_tls.pools import streams
from kluis.errors import FormatError, KluisError, RemoteError, UsageError
from kluis.evidence import Collateral, TrustAnchors
from kluis.formats.kluis.attested_tls import Answer, Role
from kluis.host.proxy import EnclaveProxy
from kluis.testing.rehearsal import RehearsalPlatform
from tests.appraisal.rules.test_machine import MACHINE
from tests.authority.amd.chips import chip
from tests.enclave.hosted.policies import judge_of, rehearsed
from tests.evidence.machine import MachineForge

APP = Path(__file__).parents[1] / "hosted" / "mutual.py"
WEB = Path(__file__).parents[1] / "hosted" / "web.py"
PATH = "/.well-known/kluis/evidence"


@pytest.fixture(scope="module")
def url(rehearsal_platform: RehearsalPlatform) -> Iterator[str]:
    """The service of one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = rehearsal_platform.launch(APP, sockets={"listen:web": listener})
        trust(one, rehearsal_platform)
        one.submit("serve")
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        one.close()


def trust(one: EnclaveProxy, platform: RehearsalPlatform) -> None:
    """Tell an enclave the root to trust."""
    collateral = json.dumps(platform.authority.collateral(datetime.now(UTC))).encode()
    one.trust(platform.authority.root_pem(), collateral)


@pytest.fixture
def other(enclave: Callable[..., EnclaveProxy], rehearsal_platform: RehearsalPlatform) -> EnclaveProxy:
    """Another instance, a client."""
    made = enclave(APP)
    trust(made, rehearsal_platform)
    return made


def test_each_end_knows_the_other(url: str, other: EnclaveProxy) -> None:
    """A client that attests itself is named by the handler, by its measurement."""
    assert other.ask(f"{url}/secret", True) == f"for {other.image_id.hex()}"


def test_an_enclave_in_a_machine(url: str, rehearsal_platform: RehearsalPlatform) -> None:
    """A client that trusts only a processor's root reaches an enclave under a root that its machine endorses.

    The bytes on the connection are the same: both layers are judged from quote and collateral.
    """
    now = datetime.now(UTC)
    authority = rehearsal_platform.authority
    machine = MachineForge(chip(now=now), SimpleNamespace(authority=authority))  # type: ignore[arg-type]
    collateral = Collateral.from_json(json.dumps(authority.collateral(now)).encode())
    endorsement = machine.endorsement(crl=machine.processor.crl(now))
    endorsed = dataclasses.replace(collateral, endorsement=endorsement)
    wanted = dataclasses.replace(MACHINE, levels=frozenset(PLATFORM_LEVELS))  # type: ignore[type-var]
    mutual = BySigner(signers=frozenset({bytes(32)}), product_id=6, min_svn=1)
    policy = dataclasses.replace(rehearsed(mutual), machine=wanted)
    for given, refused in ((endorsed, ""), (collateral, "root_untrusted")):

        def standing(given: Collateral = given) -> tuple[TrustAnchors, Collateral, datetime]:
            return machine.anchors, given, datetime.now(UTC)

        with httpx.Client(transport=AttestedTransport(Judge(policy, standing)), timeout=120) as client:
            if not refused:
                assert client.get(f"{url}/secret").status_code == 403  # the client attests nothing of itself
                continue
            with pytest.raises(KluisError) as caught:
                client.get(f"{url}/secret")
            assert caught.value.code == refused


def test_over_a_socket_that_the_host_brought(url: str, rehearsal_platform: RehearsalPlatform) -> None:
    """Two enclaves know each other over a connection that neither has made, for each request."""
    with (
        socket.socket() as brought,
        rehearsal_platform.launch(APP, sockets={"connect:other": brought}) as one,
    ):
        trust(one, rehearsal_platform)
        # Not before the start, which may last longer than a server waits for a silent client.
        brought.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        for _ in range(2):
            assert one.ask_over_it("/secret") == f"for {one.image_id.hex()}"


def test_a_socket_that_leads_elsewhere(rehearsal_platform: RehearsalPlatform) -> None:
    """A host that connects it to no peer is reported by name, and there is no second socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one = rehearsal_platform.launch(APP, sockets={"connect:other": ours})
        trust(one, rehearsal_platform)
        theirs.shutdown(socket.SHUT_WR)
        for said in ("want an answer, got the end", "the host brought none, or it was taken before"):
            with pytest.raises(KluisError, match=said):
                one.ask_over_it("/secret")
    one.close()


def test_a_client_that_does_not_attest_itself(url: str, other: EnclaveProxy) -> None:
    """The handler answers 403: knowing the server does not make one known."""
    answer = other.ask(f"{url}/secret", False)
    assert answer == "this needs a client that has attested itself, and not too long ago"


def test_a_client_that_is_not_believed_comes_anew(url: str, rehearsal_platform: RehearsalPlatform) -> None:
    """With the refusal its connection ends: a client that trusts this end for longer is judged on the
    next.
    """
    mutual = BySigner(signers=frozenset({bytes(32)}), product_id=6, min_svn=1)
    judge = judge_of(rehearsal_platform, rehearsed(mutual))
    with httpx.Client(transport=AttestedTransport(judge), timeout=120) as client:
        first, second = (client.get(f"{url}/secret") for _ in range(2))
    assert (first.status_code, second.status_code) == (403, 403)
    assert first.extensions["network_stream"] is not second.extensions["network_stream"]


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_a_time_that_is_none(rehearsal_platform: RehearsalPlatform, seconds: float) -> None:
    """No time is ever after an invalid number: a peer with one would be trusted endlessly."""
    with pytest.raises(UsageError) as refused:
        dataclasses.replace(judge_of(rehearsal_platform), believed_seconds=seconds)
    assert refused.value.message == f"believed_seconds: want 0 or more, got {seconds}"


@pytest.mark.parametrize(("believed", "most_age", "seconds"), [(3600.0, 300, 300), (60.0, 300, 60)])
def test_evidence_is_trusted_from_its_request_on(
    rehearsal_platform: RehearsalPlatform,
    monkeypatch: pytest.MonkeyPatch,
    believed: float,
    most_age: int,
    seconds: float,
) -> None:
    """A server that is slow with its evidence gains nothing: a transport counts from its own request.

    The policy's ``max_evidence_age`` ends a connection, too.
    """
    judge = judge_of(rehearsal_platform)
    policy = dataclasses.replace(judge.policy, max_evidence_age=timedelta(seconds=most_age))
    judge = dataclasses.replace(judge, policy=policy, believed_seconds=believed)
    now = [1000.0]

    def introduce(_: ClientEnd, __: Link) -> Generator[bool, bytes, str]:
        yield True
        now[0] += 50.0  # until the evidence arrives
        return "held"

    monkeypatch.setattr(streams, "elapsed", lambda: now[0])
    monkeypatch.setattr(ClientEnd, "introduce", introduce)
    below = httpcore.MockBackend([b"evidence"])
    stream = streams.Backend(below, ClientEnd(judge, None)).connect_tcp("enclave", 443)
    stream.start_tls(ssl.create_default_context())
    assert stream.get_extra_info(streams.RESULT) == "held"
    for passed, ended in ((50.0, False), (seconds - 1.0, False), (seconds, True)):
        now[0] = 1000.0 + passed
        assert bool(stream.get_extra_info("is_readable")) is ended


def test_a_client_is_believed_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a connection that is kept, the judgement ends, a while after the client's own of the server."""
    now = [1000.0]
    monkeypatch.setattr(channel, "elapsed", lambda: now[0])
    held: Any = SimpleNamespace(believed_seconds=3600.0, judge=lambda *_: "held")
    peer = Peer(Link(ServerKey().context, Role.SERVER))
    assert peer.result is None
    peer.challenge()
    peer.present(Answer(b"quote", b"", b"", b""), held)
    for passed, result in ((0.0, "held"), (3659.0, "held"), (3660.0, None)):
        now[0] = 1000.0 + passed
        assert peer.result == result


def test_a_judgement_ages_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that counts is that of the clock which goes on in a suspended machine."""
    monkeypatch.setattr(channel.time, "clock_gettime", {time.CLOCK_BOOTTIME: 7200.0}.__getitem__)
    assert channel.elapsed() == 7200.0


def test_a_client_whose_time_ends_as_it_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler gets a judgement or a refusal, and at no moment nothing."""
    told: list[Any] = ["held", None]
    monkeypatch.setattr(Peer, "result", property(lambda _: told.pop(0)))
    peer = Peer(Link(ServerKey().context, Role.SERVER))
    request = SimpleNamespace(scope={"extensions": {"kluis.peer": peer}})
    found: Any = attested_peer(request)
    assert found == "held"
    with pytest.raises(HTTPException, match="not too long ago"):
        attested_peer(request)


def test_a_dependency_of_fastapis(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI hands a handler the judgement, and refuses in its place where there is none."""
    peer, web = Peer(Link(ServerKey().context, Role.SERVER)), FastAPI()

    @web.get("/")
    def name(caller: Annotated[Any, Depends(attested_peer)]) -> str:
        return f"for {caller}"

    async def connection(scope: Any, receive: Any, send: Any) -> None:
        await web({**scope, "extensions": {"kluis.peer": peer}}, receive, send)

    async def asked() -> tuple[int, Any]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(connection), base_url="https://a", timeout=120
        ) as client:
            answer = await client.get("/")
        return answer.status_code, answer.json()

    status, said = asyncio.run(asked())
    assert (status, said["detail"]) == (
        403,
        "this needs a client that has attested itself, and not too long ago",
    )
    monkeypatch.setattr(Peer, "result", "known")
    assert asyncio.run(asked()) == (200, "for known")


def test_a_client_of_another_platform(
    url: str, rehearsal_platform: RehearsalPlatform, other_platform: RehearsalPlatform
) -> None:
    """A client whose root the server does not trust is refused by the server, with the reason."""
    stranger = other_platform.launch(APP)
    trust(stranger, rehearsal_platform)
    with pytest.raises(RemoteError, match="status 204, got 403"):
        stranger.ask(f"{url}/secret", True)
    stranger.close()


def test_a_question_past_its_bound(url: str) -> None:
    """A question is 1 KiB at most, and no more of one is held: every connection may ask."""
    with httpx.Client(base_url=url, verify=False, timeout=120) as client:
        answer = client.post(PATH, content=b" " * 1025)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        {"code": "too_large", "message": "evidence request: want at most 1024 bytes"},
    )


def test_a_servers_own_evidence_handed_back(url: str) -> None:
    """A client without an enclave requests the server's quote over its own challenge, and presents that."""
    with httpx.Client(verify=False, base_url=url, timeout=120) as client:
        ask = client.post(PATH, content=question(os.urandom(32)))
        challenge = Answer.parse(ask.content).challenge
        made = Answer.parse(client.post(PATH, content=question(challenge)).content)
        back = Answer(made.quote, made.runtime_data, made.launch_configuration)
        refused = client.put(PATH, content=back.encode())
        assert refused.status_code == 403  # the second question voided the first challenge
        assert (
            client.put(PATH, content=back.encode()).json()["error"]["message"].startswith("evidence: want a")
        )
        assert client.get("/secret").status_code == 403


def question(nonce: bytes) -> bytes:
    """A client's request."""
    from kluis.formats.kluis.attested_tls import Question

    return Question(nonce).encode()


def shaken() -> tuple[Link, Link]:
    """Two ends of one connection."""
    server, client = Link(ServerKey().context, Role.SERVER), Link(client_context(), Role.CLIENT)
    while not (client.handshake() and server.handshake()):
        server.feed(client.pending())
        server.handshake()
        client.feed(server.pending())
    return server, client


def test_the_exporter_is_of_one_connection() -> None:
    """Both ends have the same, and no other connection has it; before the handshake there is none."""
    server, client = shaken()
    assert server.exporter() == client.exporter() != shaken()[0].exporter()
    with pytest.raises(UsageError, match="handshake"):
        Link(client_context(), Role.CLIENT).exporter()


def test_plain_bytes_arrive_until_the_goodbye() -> None:
    """What one end writes the other reads, and then that it closed."""
    server, client = shaken()
    client.write(b"hello" * 100_000)
    client.close()
    server.feed(client.pending())
    heard = b""
    while plain := server.read():
        heard += plain
    assert heard == b"hello" * 100_000
    assert plain is None


def test_a_challenge_is_used_once(rehearsal_platform: RehearsalPlatform) -> None:
    """Evidence that does not hold uses the challenge up, too."""
    peer, judge = Peer(shaken()[0]), judge_of(rehearsal_platform)
    peer.challenge()
    with pytest.raises(FormatError):
        peer.present(Answer(b"", b"", b""), judge)
    with pytest.raises(UsageError, match="challenge"):
        peer.present(Answer(b"", b"", b""), judge)
    assert peer.result is None
    assert isinstance(judge, Judge)
