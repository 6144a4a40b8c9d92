"""The proxy of ``kluis connect``, compared with the attested transport; and WebSocket inside, with uvicorn
outside.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Message, Request

from bench.harness import Harness, Row, timed
from bench.images import image
from bench.outside import outside, unchecked
from bench.rows.serving import APP, requests
from kluis.appraisal import ByImage, Policy, dumps, strict
from kluis.enclave.attested_tls.introduction import ClientEnd
from kluis.enclave.attested_tls.link import Link
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from kluis.host import attested, load
from kluis.tee import backends

RELAY = APP.parent / "relay" / "relay.py"
MESSAGES = 300
MESSAGE = os.urandom(1024)


def rows(take: Harness) -> list[Row]:
    """Two rows: a request of 1000 bytes through the proxy, and a message of 1 KiB over a WebSocket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = image("web")
        with load(served, sockets={"listen:web": listener}) as enclave, outside(APP, "app:web") as other:
            enclave.submit("serve")
            port = listener.getsockname()[1]
            policy = strict(
                ByImage(image_ids=frozenset({enclave.image_id})),
                protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
                purpose=Purpose.CHANNEL,
                counters=frozenset({"unwitnessed"}),
                missing=frozenset(),
                emulated_roots=("root.pem",),
            )
            with connected(policy, port) as proxy:
                through = _proxied(take, policy, port, proxy, other)
            return [through, _chatting(take, policy, port, other)]


def _proxied(take: Harness, policy: Policy, port: int, proxy: str, other: str) -> Row:
    with (
        httpx.Client() as through,
        httpx.Client(transport=attested.transport(policy)) as direct,
        httpx.Client(verify=unchecked()) as plain,
        relayed(other) as relay,
    ):

        def floor() -> dict[str, str]:
            pairs = [(requests(through, relay), requests(plain, other)) for _ in range(5)]
            ratio = statistics.median(mine / theirs for mine, theirs in pairs)
            return {"asyncio's streams as a proxy of bytes to TLS outside, against none": f"{ratio:.2f}"}

        return take.compare(
            "request of 1000 bytes through kluis connect, kept alive",
            "the attested transport, direct",
            1.5,
            ours=lambda: requests(through, proxy),
            theirs=lambda: requests(direct, f"https://127.0.0.1:{port}/"),
            also=floor,
        )


def _chatting(take: Harness, policy: Policy, port: int, other: str) -> Row:
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        socket.create_connection(("127.0.0.1", httpx.URL(other).port or 0)) as plain,
        unchecked().wrap_socket(plain) as tls,
    ):
        ours = Chat(*_over(raw, policy))
        theirs = Chat(tls.sendall, lambda: tls.recv(1 << 16))
        return take.compare(
            "WebSocket inside the process TEE, attested TLS, echo of 1 KiB",
            "the same app under uvicorn with wsproto and TLS outside",
            1.4,
            ours=ours.echo,
            theirs=theirs.echo,
        )


class Chat:
    """A WebSocket that is echoed.

    Args:
        send: sends plain bytes.
        receive: waits for some.
    """

    def __init__(self, send: Callable[[bytes], object], receive: Callable[[], bytes]) -> None:
        self._send = send
        self._receive = receive
        self._protocol = WSConnection(ConnectionType.CLIENT)
        send(self._protocol.send(Request(host="localhost", target="/chat")))
        assert self._wait(AcceptConnection)

    def echo(self) -> float:
        """The mean time of many messages, one after the other."""
        self._one()
        return timed(lambda: [self._one() for _ in range(MESSAGES)]) / MESSAGES

    def _one(self) -> None:
        self._send(self._protocol.send(Message(data=MESSAGE)))
        assert self._wait(BytesMessage) == len(MESSAGE)

    def _wait(self, kind: type) -> int:
        got = 0
        while True:
            self._protocol.receive_data(self._receive())
            for event in self._protocol.events():
                if isinstance(event, BytesMessage):
                    got += len(event.data)
                if isinstance(event, kind) and getattr(event, "message_finished", True):
                    return got or 1


def _over(raw: socket.socket, policy: Policy) -> tuple[Callable[[bytes], object], Callable[[], bytes]]:
    """Sends and receives plain bytes over a verified connection."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end = ClientEnd(attested.judge(policy), None)
    link: Link = end.open()
    talk = end.introduce(link)
    wants = next(talk)
    try:
        while True:
            raw.sendall(link.pending())
            wants = talk.send(raw.recv(1 << 16) if wants else b"")
    except StopIteration:
        pass

    def send(plain: bytes) -> None:
        link.write(plain)
        raw.sendall(link.pending())

    def receive() -> bytes:
        while not (plain := link.read()):
            link.feed(raw.recv(1 << 16))
        return plain

    return send, receive


@contextmanager
def connected(policy: Policy, port: int) -> Iterator[str]:
    """Run ``kluis connect`` to an enclave on a port; yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "root.pem").write_bytes(backends.default().root_pem())
        (Path(folder) / "policy.toml").write_text(dumps(policy))
        kluis = str(Path(sys.executable).with_name("kluis"))
        command = [kluis, "connect", f"https://127.0.0.1:{port}", "--listen", "127.0.0.1:0", "--json"]
        child = subprocess.Popen([*command, "--policy", f"{folder}/policy.toml"], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            yield json.loads(child.stdout.readline())["listen"] + "/"
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait()


@contextmanager
def relayed(other: str) -> Iterator[str]:
    """Run the plainest proxy to a server with TLS; yields its address."""
    command = [sys.executable, str(RELAY), str(httpx.URL(other).port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            yield f"http://127.0.0.1:{int(child.stdout.readline())}/"
        finally:
            child.terminate()
