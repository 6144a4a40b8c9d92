"""A relay sits between a client and a genuine enclave, and has everything except its memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from kluis.appraisal import ByImage, Policy, strict
from kluis.enclave.attested_tls.client import attestation
from kluis.enclave.attested_tls.link import (
    Link,
    ServerKey,
    client_context,
    make_certificate,
    server_context,
)
from kluis.errors import AuthenticityError, KluisError, PolicyError
from kluis.evidence import Collateral, ProtectionLevel, TrustAnchors
from kluis.formats.kluis.attested_tls import PATH, Answer, Binding, Question, Role
from kluis.formats.kluis.runtime_data import Purpose, RuntimeData, report_data
from kluis.host import attested, load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.image.build.builder import build
from kluis.tee.platform.client import Platform

SERVICE = Path(__file__).parents[1] / "enclave" / "hosted" / "web.py"
REQUIRED = ("starlette", "uvicorn", "pyOpenSSL")


@pytest.fixture(scope="module")
def service_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of a genuine service."""
    place = tmp_path_factory.mktemp("service")
    folder = place / "code"
    folder.mkdir()
    shutil.copy(SERVICE, folder)
    pinned = ", ".join(f'"{one}=={metadata.version(one)}"' for one in REQUIRED)
    (folder / "kluis.toml").write_text(
        f'entry = "web:app"\ngrants = ["listen:web"]\nheap = "256MiB"\nrequirements = [{pinned}]\n'
    )
    build(folder, place / "service.kluis", place / "author.pem", debug=False)
    return place / "service.kluis"


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """The service's socket."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture(scope="module")
def service(
    service_image: Path, platform: Platform, allowed: frozenset[str], listener: socket.socket
) -> Iterator[EnclaveProxy]:
    """A genuine service, in its own enclave."""
    with load(service_image, insecure_allow_missing=allowed, sockets={"listen:web": listener}) as enclave:
        enclave.submit("serve")
        yield enclave


@pytest.fixture
def policy(service: EnclaveProxy, allowed: frozenset[str]) -> Policy:
    """What an honest client wants: this very image, protected as this machine can."""
    return strict(
        ByImage(image_ids=frozenset({service.image_id})),
        protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
        purpose=Purpose.CHANNEL,
        counters=frozenset({"unwitnessed"}),
        missing=allowed,
    )


def exchange(sock: socket.socket, link: Link, said: bytes) -> bytes:
    """Say something over TLS and hear one answer with a Content-Length."""
    link.write(said)
    sock.sendall(link.pending())
    heard = b""
    while True:
        head, found, body = heard.partition(b"\r\n\r\n")
        length = [
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        if found and len(body) >= (length[0] if length else 0):
            return heard
        heard += hear(sock, link)


def hear(sock: socket.socket, link: Link) -> bytes:
    """The next plain bytes."""
    while not (plain := link.read()):
        sealed = sock.recv(65536)
        if not sealed or plain is None:
            raise ConnectionError
        link.feed(sealed)
    return plain


def shake(sock: socket.socket, link: Link) -> None:
    """Do the handshake."""
    while not link.handshake():
        if sealed := link.pending():
            sock.sendall(sealed)
        sealed = sock.recv(65536)
        if not sealed:
            raise ConnectionError
        link.feed(sealed)
    if sealed := link.pending():
        sock.sendall(sealed)


def ask(link: Link, method: bytes, body: bytes) -> bytes:
    """A request about evidence."""
    assert link.established
    return b"%s %s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (
        method,
        PATH.encode(),
        len(body),
        body,
    )


class Relay:
    """Terminates the client's TLS itself, and answers for the enclave; keeps every plain byte it receives.

    Args:
        answer: makes the answer to a request, given its end of the client's connection.
    """

    def __init__(self, answer: Callable[[Link, Question], bytes], context: SSL.Context | None = None) -> None:
        self.heard: list[bytes] = []
        self._answer = answer
        self._context = context or ServerKey().context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        with self._listener, sock:
            link = Link(self._context, Role.SERVER)
            try:
                shake(sock, link)
                while True:
                    said = hear(sock, link)
                    if PATH.encode() not in said.split(b"\r\n")[0]:
                        self.heard.append(said)
                        body = b"from the relay"
                    else:
                        while not said.endswith(b"}"):
                            said += hear(sock, link)
                        body = self._answer(link, Question.parse(said.partition(b"\r\n\r\n")[2]))
                    link.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                    sock.sendall(link.pending())
            except (OSError, KluisError):
                return


def refused(relay: Relay, policy: Policy) -> KluisError:
    """See a client refuse a relay, and the relay hear nothing of what it would have sent."""
    with (
        httpx.Client(transport=attested.transport(policy), timeout=120) as client,
        pytest.raises(KluisError) as caught,
    ):
        client.post(f"{relay.url}/", content=b"a secret")
    assert relay.heard == []
    return caught.value


def test_an_honest_client_is_served(service: EnclaveProxy, policy: Policy, listener: socket.socket) -> None:
    """The process TEE serves a Starlette application over TLS that ends inside."""
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    body = os.urandom(3 << 20)
    with httpx.Client(transport=attested.transport(policy), base_url=url, timeout=300) as client:
        response = client.get("/")
        assert response.text == "hello from inside"
        assert attestation(response).claims.measurement.value == service.image_id
        assert client.post("/digest", content=body).text == hashlib.sha256(body).hexdigest()

    async def many() -> set[str]:
        async with httpx.AsyncClient(
            transport=attested.async_transport(policy), base_url=url, timeout=300
        ) as client:
            return {one.text for one in await asyncio.gather(*(client.get("/") for _ in range(20)))}

    assert asyncio.run(many()) == {"hello from inside"}


def test_genuine_evidence_forwarded(policy: Policy, listener: socket.socket) -> None:
    """A relay ends TLS itself and forwards question and answer: everything is genuine but the connection."""

    def forward(_: Link, question: Question) -> bytes:
        with socket.create_connection(listener.getsockname()) as sock:
            link = Link(client_context(), Role.CLIENT)
            shake(sock, link)
            return exchange(sock, link, ask(link, b"POST", question.encode())).partition(b"\r\n\r\n")[2]

    error = refused(Relay(forward), policy)
    assert isinstance(error, AuthenticityError)
    assert error.code == "channel_exporter"


def test_a_genuine_quote_of_the_relays_exporter(service: EnclaveProxy, policy: Policy) -> None:
    """The enclave's application can only quote with purpose app, for any request."""

    def vouched(link: Link, question: Question) -> bytes:
        binding = Binding(Role.SERVER, link.exporter()).encode()
        return Answer(*service.vouch(question.nonce, binding)).encode()

    error = refused(Relay(vouched), policy)
    assert isinstance(error, PolicyError)
    assert "purpose: want channel, got app" in error.message


def test_the_hosts_own_evidence_of_the_relays_exporter(service: EnclaveProxy, policy: Policy) -> None:
    """The runtime quotes for the host only with purpose cli, for any request."""

    def asked(link: Link, question: Question) -> bytes:
        made = service.evidence(question.nonce, Binding(Role.SERVER, link.exporter()).encode())
        return Answer(made.quote, made.runtime_data, made.launch_configuration).encode()

    error = refused(Relay(asked), policy)
    assert isinstance(error, PolicyError)
    assert "purpose: want channel, got cli" in error.message


def test_rewritten_runtime_data(service: EnclaveProxy, policy: Policy) -> None:
    """A relay that writes the purpose itself has no quote of it."""

    def rewritten(link: Link, question: Question) -> bytes:
        binding = Binding(Role.SERVER, link.exporter()).encode()
        quote, _, configuration = service.vouch(question.nonce, binding)
        forged = RuntimeData(
            purpose=Purpose.CHANNEL, image_id=service.image_id, nonce=question.nonce, payload=binding
        )
        return Answer(quote, forged.encode(), configuration).encode()

    assert "runtime_data" in refused(Relay(rewritten), policy).message


def test_an_old_answer(policy: Policy, listener: socket.socket) -> None:
    """Evidence over another nonce is a replay."""

    def replayed(_: Link, question: Question) -> bytes:
        with socket.create_connection(listener.getsockname()) as sock:
            link = Link(client_context(), Role.CLIENT)
            shake(sock, link)
            old = Question(bytes(32)).encode()
            return exchange(sock, link, ask(link, b"POST", old)).partition(b"\r\n\r\n")[2]

    assert "nonce" in refused(Relay(replayed), policy).message


def test_a_servers_evidence_is_not_its_clients(policy: Policy, listener: socket.socket) -> None:
    """On one connection, a server's own evidence sent back to it is distinguished by its role."""
    judge = attested.judge(policy)
    with socket.create_connection(listener.getsockname()) as sock:
        link = Link(client_context(), Role.CLIENT)
        shake(sock, link)
        nonce = os.urandom(32)  # as if it were the server's challenge: the requester chooses it
        heard = exchange(sock, link, ask(link, b"POST", Question(nonce).encode())).partition(b"\r\n\r\n")[2]
        link.role = Role.SERVER  # judged as the server would: same exporter, its own nonce, a genuine peer
        with pytest.raises(AuthenticityError, match="channel role: want client, got server"):
            judge.judge(Answer.parse(heard), link, nonce)


def test_an_operator_who_has_the_key(service: EnclaveProxy, policy: Policy, listener: socket.socket) -> None:
    """The operator's own certificate is for a key that its host has. A relay with key and certificate shows
    clients the same as the enclave, and is still refused: its connections are others.
    """
    key, certificate = make_certificate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    service.use_key(pem, certificate.public_bytes(Encoding.PEM))

    def forward(_: Link, question: Question) -> bytes:
        with socket.create_connection(listener.getsockname()) as sock:
            link = Link(client_context(), Role.CLIENT)
            shake(sock, link)
            return exchange(sock, link, ask(link, b"POST", question.encode())).partition(b"\r\n\r\n")[2]

    host, port = listener.getsockname()
    relay = Relay(forward, server_context(key, [certificate]))
    shown = x509.load_pem_x509_certificate(ssl.get_server_certificate((host, port)).encode())
    assert shown == certificate
    error = refused(relay, policy)
    assert isinstance(error, AuthenticityError)
    assert error.code == "channel_exporter"
    with httpx.Client(transport=attested.transport(policy), timeout=120) as client:
        assert client.get(f"https://{host}:{port}/").text == "hello from inside"


OID = x509.ObjectIdentifier("2.23.133.5.4.9")


def certificate_only(url: str, platform: Platform, image_id: bytes) -> str:
    """A client of the other form: it believes a certificate whose evidence is over the certificate's key.

    Everything it could check, it does: the evidence is authentic, of the right image, fresh, over this key.
    """
    from datetime import UTC, datetime

    from kluis import evidence

    host, port = url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), sock)
        connection.set_connect_state()
        connection.do_handshake()
        certificate = connection.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        held = certificate.extensions.get_extension_for_oid(OID).value
        assert isinstance(held, x509.UnrecognizedExtension)
        answer = Answer.parse(held.value)
        claims = evidence.verify(
            answer.quote,
            anchors=TrustAnchors.from_pem(platform.root_pem()),
            collateral=Collateral.from_json(platform.collateral()),
            now=datetime.now(UTC),
        ).value
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert claims.measurement.value == image_id
        assert claims.report_data == report_data(answer.runtime_data)
        assert RuntimeData.parse(answer.runtime_data).payload == hashlib.sha256(spki).digest()
        connection.sendall(b"POST / HTTP/1.1\r\n\r\na secret")
        return connection.recv(1000).decode()


def test_the_certificate_form_is_fooled(service: EnclaveProxy, platform: Platform, policy: Policy) -> None:
    """Evidence in a certificate: a relay whose key the genuine enclave quoted is believed, and hears all.

    The same relay, with the same certificate, is refused by attested TLS.
    """
    from datetime import UTC, datetime

    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    key = ec.generate_private_key(ec.SECP256R1())  # the relay's own, outside
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    answer = Answer(*service.vouch(b"", hashlib.sha256(spki).digest()))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "genuine enclave")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
        .add_extension(x509.UnrecognizedExtension(OID, answer.encode()), critical=False)
        .sign(key, SHA256())
    )
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(certificate)
    context.use_privatekey(key)

    def held(_: Link, __: Question) -> bytes:
        return answer.encode()

    believed = Relay(held, context)
    assert "from the relay" in certificate_only(believed.url, platform, service.image_id)
    assert believed.heard == [b"POST / HTTP/1.1\r\n\r\na secret"]

    assert "purpose: want channel, got app" in refused(Relay(held, context), policy).message
