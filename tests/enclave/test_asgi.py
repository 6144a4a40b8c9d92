"""A rehearsed enclave serves an application; honest clients, slow ones and hostile ones call it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kluis.appraisal import BySigner
from kluis.authority.issuing import key_usage
from kluis.enclave.attested_tls.client import AsyncAttestedTransport, AttestedTransport, attestation
from kluis.enclave.attested_tls.judge import Judge
from kluis.errors import AuthenticityError, PolicyError, RemoteError, UsageError
from kluis.formats.kluis.runtime_data import Purpose
from kluis.testing.rehearsal import RehearsalPlatform
from tests.enclave.hosted.policies import judge_of, rehearsed
from tests.enclave.hosted.serving import APP, Served


@pytest.fixture
def judge(rehearsal_platform: RehearsalPlatform) -> Judge:
    """A judge that trusts this platform's root and the application's signer."""
    return judge_of(rehearsal_platform)


def test_a_request_reaches_the_enclave_that_was_judged(served: Served, judge: Judge) -> None:
    """A response names the enclave it came from, and one connection carries many requests."""
    with httpx.Client(transport=AttestedTransport(judge), base_url=served.url, timeout=120) as client:
        first = client.get("/")
        assert first.text == "hello from inside"
        assert attestation(first).runtime_data.purpose is Purpose.CHANNEL
        stream = first.extensions["network_stream"]
        assert all(client.get("/").extensions["network_stream"] is stream for _ in range(20))


def test_a_kept_connection_is_believed_for_a_time(
    served: Served, judge: Judge, other_platform: RehearsalPlatform
) -> None:
    """A peer is judged again after a time: later requests reach only current peers."""
    revoked = judge_of(other_platform).standing
    given: list[Any] = [judge.standing, judge.standing, revoked]
    brief = dataclasses.replace(judge, standing=lambda: given.pop(0)(), believed_seconds=0.0)
    with httpx.Client(transport=AttestedTransport(brief), base_url=served.url, timeout=120) as client:
        first, second = (client.get("/").extensions["network_stream"] for _ in range(2))
        assert first is not second
        before = served.enclave.told()
        with pytest.raises(AuthenticityError, match="root"):
            client.get("/")
    assert served.enclave.told() == before
    assert not given


def test_a_kept_connection_is_believed_for_a_time_async(served: Served, judge: Judge) -> None:
    """The asynchronous transport does the same."""
    judged: list[None] = []

    def standing() -> Any:
        judged.append(None)
        return judge.standing()

    async def run(seconds: float) -> None:
        transport = AsyncAttestedTransport(
            dataclasses.replace(judge, standing=standing, believed_seconds=seconds)
        )
        async with httpx.AsyncClient(transport=transport, base_url=served.url, timeout=120) as client:
            for _ in range(3):
                assert (await client.get("/")).text == "hello from inside"

    asyncio.run(run(3600.0))
    assert len(judged) == 1
    asyncio.run(run(0.0))
    assert len(judged) == 4


def test_async(served: Served, judge: Judge) -> None:
    """The asynchronous transport does the same, with many connections at once."""

    async def run() -> list[str]:
        transport = AsyncAttestedTransport(judge)
        async with httpx.AsyncClient(transport=transport, base_url=served.url, timeout=120) as client:
            answers = await asyncio.gather(*(client.get("/") for _ in range(30)))
            assert {attestation(one).claims.product_id for one in answers} == {5}
            return [one.text for one in answers]

    assert asyncio.run(run()) == ["hello from inside"] * 30


def test_a_fault_of_the_application(served: Served, judge: Judge) -> None:
    """A fault is answered and logged, and costs its client no connection; one amid an answer cuts it off."""
    with httpx.Client(transport=AttestedTransport(judge), base_url=served.url, timeout=120) as client:
        first = client.get("/")
        stream = first.extensions["network_stream"]
        for _ in range(5):
            fault = client.get("/fault")
            assert (fault.status_code, fault.text) == (500, "Internal Server Error")
            assert client.get("/").extensions["network_stream"] is stream
        assert served.enclave.told()[-2:] == ["Exception in ASGI application: of the application's", "/"]
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/fault?late")
        assert client.get("/").extensions["network_stream"] is not stream


def test_many_threads(served: Served, judge: Judge) -> None:
    """One client serves many threads, as httpx's do."""
    with (
        httpx.Client(transport=AttestedTransport(judge), base_url=served.url, timeout=120) as client,
        ThreadPoolExecutor(10) as pool,
    ):
        assert set(pool.map(lambda _: client.get("/").text, range(100))) == {"hello from inside"}


def test_a_length_that_is_said_twice(served: Served) -> None:
    """A request with two ends is refused, and nothing after it on the connection is read as another."""
    first = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    for path in (b"/digest", b"/.well-known/kluis/evidence"):
        with served.plain_tls() as client:
            client.sendall(first % path + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            said = b""
            while part := client.recv(65536):
                said += part
        assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert said.endswith(
            b'{"error":{"code":"malformed","message":"body: want its length said once, got content-length '
            b'and transfer-encoding"}}'
        )
        assert said.count(b"HTTP/1.1") == 1


def test_large_bodies(served: Served, judge: Judge) -> None:
    """Megabytes go in and come out whole; beyond the bound they are refused, however they are sent."""
    body = bytes(range(256)) * (20 << 10)
    with httpx.Client(transport=AttestedTransport(judge), base_url=served.url, timeout=120) as client:
        assert client.post("/digest", content=body).text == hashlib.sha256(body).hexdigest()
        assert client.post("/digest", content=iter([body])).text == hashlib.sha256(body).hexdigest()
        assert len(client.get("/large", params={"mebibytes": 24}).content) == 24 << 20
        assert client.post("/digest", content=bytes((8 << 20) + 1)).status_code == 413
        assert client.post("/digest", content=iter([body, body])).status_code == 413
        assert client.get("/").status_code == 200


def test_a_wrong_policy_is_refused_before_the_application_hears_a_byte(
    served: Served, rehearsal_platform: RehearsalPlatform
) -> None:
    """Another signer is wanted: the error names the rule, and no request reached the application."""
    wanted = rehearsed(BySigner(signers=frozenset({b"\1" * 32}), product_id=5, min_svn=1))
    before = served.enclave.told()
    with (
        httpx.Client(
            transport=AttestedTransport(judge_of(rehearsal_platform, wanted)), timeout=120
        ) as client,
        pytest.raises(PolicyError, match="signer"),
    ):
        client.post(f"{served.url}/", content=b"a secret")
    assert served.enclave.told() == before


def test_another_platform_is_refused(served: Served, other_platform: RehearsalPlatform) -> None:
    """Evidence under a root that is not trusted is not authentic; nothing was sent."""
    before = served.enclave.told()
    with (
        httpx.Client(transport=AttestedTransport(judge_of(other_platform)), timeout=120) as client,
        pytest.raises(AuthenticityError, match="root"),
    ):
        client.get(f"{served.url}/")
    assert served.enclave.told() == before


@pytest.mark.parametrize("purpose", [Purpose.APP, Purpose.CLI, Purpose.RECEIPT])
def test_a_policy_of_another_purpose_makes_no_transport(
    purpose: Purpose, rehearsal_platform: RehearsalPlatform
) -> None:
    """A policy that would take a quote a host can ask for is refused before any connection."""
    with pytest.raises(UsageError, match="want channel, got"):
        judge_of(rehearsal_platform, rehearsed(purpose=purpose))


def test_plain_http_is_refused(judge: Judge) -> None:
    """An address without TLS has no connection to attest."""
    with (
        httpx.Client(transport=AttestedTransport(judge), timeout=120) as client,
        pytest.raises(UsageError, match="https"),
    ):
        client.get("http://127.0.0.1:1/")


def test_only_tls_1_3(served: Served) -> None:
    """A client that only offers TLS 1.2 is refused."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=120) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + bytes(70_000)]
)
def test_garbage_ends_its_own_connection(served: Served, said: bytes, judge: Judge) -> None:
    """What is no TLS is cut off, and everybody else is served."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=120) as raw:
        try:
            raw.sendall(said)
            while raw.recv(1000):
                pass
        except ConnectionError:
            pass
    with httpx.Client(transport=AttestedTransport(judge), timeout=120) as client:
        assert client.get(f"{served.url}/").status_code == 200


def test_slow_clients_are_cut_off(hasty: Served) -> None:
    """One that never shakes hands, and one whose head trickles, lose their connections after some seconds."""
    with (
        socket.create_connection(("127.0.0.1", hasty.port), timeout=120) as raw,
        hasty.shaken_in_time() as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            _trickle(tls, 300)
        with contextlib.suppress(ConnectionError):
            assert raw.recv(1) == b""


def _trickle(tls: ssl.SSLSocket, headers: int) -> None:
    for _ in range(headers):
        tls.sendall(b"X: y\r\n")
        time.sleep(0.1)


def test_a_body_that_does_not_come(hasty: Served) -> None:
    """A request whose body stops is answered with 408."""
    with hasty.shaken_in_time() as one, hasty.shaken_in_time() as other:
        for tls, path in ((one, "/digest"), (other, "/.well-known/kluis/evidence")):
            tls.sendall(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nbegun".encode())
        for tls in (one, other):
            assert tls.recv(1000).startswith(b"HTTP/1.1 408")


def test_an_answer_that_nobody_reads(hasty: Served) -> None:
    """A client that requests much and reads nothing is disconnected."""
    with hasty.shaken_in_time() as tls:
        tls.sendall(b"GET /large?mebibytes=64 HTTP/1.1\r\nhost: a\r\n\r\n")
        end = time.monotonic() + 120
        while hasty.holds(tls) and time.monotonic() < end:
            time.sleep(0.05)
        heard = 0
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := tls.recv(1 << 20):
                heard += len(part)
        assert heard < 64 << 20


def test_more_connections_than_there_may_be_wait(served: Served, judge: Judge) -> None:
    """Past the bound, connections wait in the kernel's queue until others end; nobody is lost."""
    idle = [socket.create_connection(("127.0.0.1", served.port), timeout=120) for _ in range(60)]
    with httpx.Client(transport=AttestedTransport(judge), timeout=120) as client:
        assert client.get(f"{served.url}/").status_code == 200
    for one in idle:
        one.close()


def test_a_head_is_bounded(served: Served) -> None:
    """Headers without end are answered with an error and no more."""
    with served.plain_tls() as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * (40 << 10))
        assert tls.recv(1000).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("POST", b"{}", 400),
        ("POST", b'{"nonce":"AAAA","version":1}', 400),
        ("POST", b"x" * 2000, 400),
        ("POST", b"x" * (300 << 10), 400),
        ("PUT", b"{}", 400),
        ("GET", b"", 405),
    ],
)
def test_hostile_questions(served: Served, method: str, body: bytes, status: int) -> None:
    """A malformed request is answered with our own error, and the connection stays open."""
    with httpx.Client(verify=False, base_url=served.url, timeout=120) as client:
        path = "/.well-known/kluis/evidence"
        assert client.request(method, path, content=body).status_code == status
        assert client.get("/").status_code == 200


def test_a_client_without_evidence_is_no_attested_peer(served: Served, judge: Judge) -> None:
    """The dependency answers 403."""
    with httpx.Client(transport=AttestedTransport(judge), timeout=120) as client:
        assert client.get(f"{served.url}/peer").status_code == 403


def test_graceful_restart(rehearsal_platform: RehearsalPlatform, judge: Judge) -> None:
    """Two enclaves share a socket: the first drains, what it was doing ends, and no client is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        first = rehearsal_platform.launch(APP, sockets={"listen:web": listener})
        old = Served(first, listener)
        with (
            httpx.Client(transport=AttestedTransport(judge), base_url=old.url, timeout=120) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            running = pool.submit(client.get, "/slow")
            while "/slow" not in first.told():
                time.sleep(0.02)
            second = rehearsal_platform.launch(APP, sockets={"listen:web": listener})
            Served(second, listener)
            first.drain(120.0)
            old.ended.result(timeout=120)
            assert running.result().text == "done"
            assert first.told() == ["start-up", "/slow", "shut-down"]
            assert client.get("/").text == "hello from inside"
            assert second.told() == ["start-up", "/"]
        first.close()
        second.close()


def in_time(attempt: Callable[[], bool]) -> None:
    """Try until a machine that has other work, too, was quick enough.

    A server that drains keeps a connection that nobody uses for a second: a client that comes later than
    that finds it closed, and has seen nothing.
    """
    assert any(attempt() for _ in range(20)), "want a machine that asks twice in a second, now and then"


def test_a_kept_connection_is_answered_once_more_and_told_that_it_ends(
    rehearsal_platform: RehearsalPlatform, judge: Judge
) -> None:
    """A client about to use a connection that it kept is answered while its server drains."""

    def attempt() -> bool:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            rehearsal_platform.launch(APP, sockets={"listen:web": listener}) as first,
            rehearsal_platform.launch(APP, sockets={"listen:web": listener}) as second,
        ):
            old = Served(first, listener)
            with httpx.Client(transport=AttestedTransport(judge), base_url=old.url, timeout=120) as client:
                assert "connection" not in client.get("/").headers
                Served(second, listener)
                drained = time.monotonic()
                first.drain(120.0)
                answered = 1
                while client.get("/").headers.get("connection") != "close":
                    answered += 1  # it drains a moment after the request
                    if time.monotonic() - drained > 1.0:
                        return False
                old.ended.result(timeout=120)
                assert "connection" not in client.get("/").headers
                assert first.told() == ["start-up", *["/"] * (answered + 1), "shut-down"]
                assert second.told() == ["start-up", "/"]
        return True

    in_time(attempt)


class Between(httpcore.SyncBackend):
    """Connects, and does something once the handshake is done, before evidence is requested."""

    def __init__(self, do: Callable[[], None]) -> None:
        self._do = do

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        """A stream whose second write waits for what is done."""
        stream, writes, do = super().connect_tcp(*args, **kwargs), list[int](), self._do
        write = stream.write

        def written(buffer: bytes, timeout: float | None = None) -> None:
            writes.append(1)
            if len(writes) == 2:
                do()
            write(buffer, timeout)

        stream.write = written  # type: ignore[method-assign]
        return stream


def test_a_client_that_asks_for_evidence_of_a_server_that_drains(
    rehearsal_platform: RehearsalPlatform, judge: Judge
) -> None:
    """Evidence is requested before a request: its answer is not the last one, or the request would be
    lost.
    """

    def attempt() -> bool:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            rehearsal_platform.launch(APP, sockets={"listen:web": listener}) as enclave,
            httpx.Client(transport=AttestedTransport(judge), timeout=120) as kept,
        ):
            served = Served(enclave, listener)
            kept.get(served.url)
            began = 0.0

            def drain() -> None:
                nonlocal began
                began = time.monotonic()
                enclave.drain(120.0)
                while kept.get(served.url, timeout=2.0).headers.get("connection") != "close":
                    pass  # it drains a moment after the request

            transport = AttestedTransport(judge, backend=Between(drain))
            with httpx.Client(transport=transport, base_url=served.url, timeout=120) as client:
                try:
                    answer = client.get("/")
                except httpx.TransportError:
                    if time.monotonic() - began > 1.0:
                        return False
                    raise
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            served.ended.result(timeout=120)
        return True

    in_time(attempt)


def test_an_idle_connection_does_not_hold_a_drain(
    rehearsal_platform: RehearsalPlatform, judge: Judge
) -> None:
    """A connection that nobody uses is closed after a second, long before the patience ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        enclave = rehearsal_platform.launch(APP, sockets={"listen:web": listener})
        served = Served(enclave, listener)
        with httpx.Client(transport=AttestedTransport(judge), base_url=served.url, timeout=120) as client:
            client.get("/")
            began = time.monotonic()
            enclave.drain(3600.0)
            served.ended.result(timeout=120)
            assert time.monotonic() - began > 0.9
        enclave.close()


def test_what_does_not_end_is_cut_off(rehearsal_platform: RehearsalPlatform, judge: Judge) -> None:
    """A drain keeps its time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        enclave = rehearsal_platform.launch(APP, sockets={"listen:web": listener})
        served = Served(enclave, listener)
        with (
            httpx.Client(transport=AttestedTransport(judge), timeout=120) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            running = pool.submit(client.get, f"{served.url}/slow", params={"seconds": 3600})
            while "/slow" not in enclave.told():
                time.sleep(0.02)
            enclave.drain(0.0)
            served.ended.result(timeout=120)
            with pytest.raises(httpx.TransportError):
                running.result()
        enclave.close()


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _signed("a host's own authority", key.public_key(), None, key)


def _signed(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(key_usage(ca=issuer is None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def test_a_host_can_name_the_service_for_clients_that_look_for_a_name(
    rehearsal_platform: RehearsalPlatform,
) -> None:
    """A client that trusts the host's authority connects by name once the enclave shows its certificate."""
    key, root = _authority()
    context = ssl.create_default_context(cadata=_pem(root).decode())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://localhost:{listener.getsockname()[1]}/"
        with rehearsal_platform.launch(APP, sockets={"listen:web": listener}) as enclave:
            enclave.submit("serve")
            with httpx.Client(verify=context, timeout=120) as client, pytest.raises(httpx.ConnectError):
                client.get(url)
            request = x509.load_pem_x509_csr(enclave.certificate_request())
            assert request.is_signature_valid
            asked = request.public_key()
            assert isinstance(asked, ec.EllipticCurvePublicKey)
            enclave.use_certificate(_pem(_signed("service", asked, root, key), root))
            with httpx.Client(verify=context, timeout=120) as client:
                assert client.get(url).text == "hello from inside"


def test_a_certificate_for_another_key_is_refused(served: Served) -> None:
    """A host cannot have an enclave show a certificate whose key the host holds, or no certificate at all."""
    key, root = _authority()
    with pytest.raises(
        RemoteError, match="certificate chain: want one for this enclave's key, got one for another"
    ):
        served.enclave.use_certificate(_pem(_signed("service", key.public_key(), root, key)))
    for chain in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(RemoteError, match="certificate chain: want PEM certificates"):
            served.enclave.use_certificate(chain)
    with pytest.raises(RemoteError, match="certificate chain: want at most 65536 bytes, got 65537"):
        served.enclave.use_certificate(b"x" * 65537)


STARVING = """
import asyncio, socket, sys
import _testcapi
from kluis.enclave import asgi

async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

class Starving(asgi.Server):
    made = lost = 0

    def _connection(self, state):
        # The first allocation fails, then the second, and so on; and whatever follows within `width`.
        self.made += 1
        if self.made > HUNGRY:
            return super()._connection(state)
        _testcapi.set_nomemory(self.made, self.made + WIDTH)
        try:
            return super()._connection(state)
        except MemoryError:
            self.lost += 1
            raise
        finally:
            _testcapi.remove_mem_hooks()

HUNGRY, WIDTH = map(int, sys.argv[2:])
server = Starving(application, limits=asgi.Limits(connections=3))
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)

async def run():
    serving = asyncio.create_task(server.serve(listener))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.drain(5.0)
    await serving
    print(server._free._value, len(server._open), server.lost > 10)

asyncio.run(run())
"""


FRAIL = """
import functools
import _testcapi

def make(held):
    def one(): return held
    async def two(): return one
    def three(): return one, two
    return functools.cache(three)

kept = []
for count in range(1, 1000):
    _testcapi.set_nomemory(count % 60 + 1, count % 60 + 2)
    try:
        kept.append(make(count))
    except MemoryError:
        pass
    finally:
        _testcapi.remove_mem_hooks()
print("whole")
"""


def test_an_interpreter_that_crashes_without_memory_ends() -> None:
    """CPython 3.13.5 crashes where an allocation fails as it creates a function: by a signal, at once."""
    pytest.importorskip("_testcapi", reason="this Python has no way to fail an allocation")
    done = subprocess.run([sys.executable, "-c", FRAIL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) in {(0, "whole\n"), (-signal.SIGSEGV, ""), (-signal.SIGABRT, "")}


@pytest.mark.parametrize("width", [1, 30])
def test_memory_that_ends_while_connections_are_made(width: int) -> None:
    """Whichever allocation fails, only that connection is lost, and its slot is free again."""
    pytest.importorskip("_testcapi", reason="this Python has no way to fail an allocation")
    if subprocess.run([sys.executable, "-c", FRAIL], check=False).returncode:
        pytest.skip("this Python crashes itself where an allocation fails as it makes a function or a cache")
    hungry = 150
    with socket.create_server(("127.0.0.1", 0), backlog=500) as listener:
        listener.set_inheritable(True)
        with subprocess.Popen(
            [sys.executable, "-c", STARVING, str(listener.fileno()), str(hungry), str(width)],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as served:
            try:
                port = listener.getsockname()[1]
                for _ in range(hungry):
                    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
                        client.shutdown(socket.SHUT_WR)
                        with contextlib.suppress(ConnectionError):
                            assert client.recv(1) == b""
                with httpx.Client(verify=False, timeout=120) as client:
                    assert client.get(f"https://127.0.0.1:{port}/").status_code == 200
                said, _ = served.communicate(timeout=120)
            finally:
                served.kill()
    assert said.split() == ["3", "0", "True"]
