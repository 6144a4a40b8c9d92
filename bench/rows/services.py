"""Requests to the services in their enclaves, end to end over one TLS connection, compared with their
computation.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import shutil
import socket
import ssl
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import KeySet

from bench.harness import Harness, Row, timed
from bench.images import image
from bench.outside import outside, unchecked
from kluis import evidence
from kluis.enclave import Evidence
from kluis.evidence import Collateral, TrustAnchors, Verifier
from kluis.evidence.intel import collateral as holding
from kluis.formats.encoding import b64
from kluis.host import load
from kluis.serve.plan import Plan
from kluis.serve.start import Serving, serving
from kluis.services.clock import SystemClock
from kluis.tee.platform.client import Platform

REQUESTS: Final = 200
CLIENTS: Final = 4
ROUNDS: Final = 7
PLAIN_VAULT: Final = Path(__file__).resolve().parents[1] / "apps" / "plain_vault"


def rows(take: Harness) -> list[Row]:
    """Three rows: attest, release, and the cost of a second instance on one database."""
    root, bundle = Platform.connect().root_pem(), Platform.connect().collateral()
    with load(image("release")) as environment:
        made: Evidence = environment.offer()
    with state() as folder, running(folder, root, 1) as one:
        attest = Attest(one, made)
        release = Release(one, attest)
        found = [attested(take, attest, root, bundle), released(take, release)]
        found.append(doubled(take, folder, root, one, made))
    return found


def attested(take: Harness, attest: Attest, root: bytes, bundle: bytes) -> Row:
    """A quote to a token, compared with the verification of the quote and one signature."""
    anchors, collateral = TrustAnchors.from_pem(root), Collateral.from_json(bundle)
    key, held, verifier = (
        rsa.generate_private_key(65537, 2048),
        holding.hold(collateral, anchors),
        Verifier(anchors),
    )

    def alone() -> None:
        evidence.verify(attest.made.quote, anchors=anchors, collateral=collateral, now=datetime.now(UTC))
        key.sign(bytes(3000), padding.PKCS1v15(), hashes.SHA256())

    def again() -> None:
        verifier.verify(attest.made.quote, collateral=held, now=datetime.now(UTC))
        key.sign(bytes(3000), padding.PKCS1v15(), hashes.SHA256())

    def also() -> dict[str, str]:
        ours, theirs = (sorted(many(work) for _ in range(5))[2] for work in (attest.ask, again))
        return {
            "against a verifier that has seen this platform and collateral before": f"{ours / theirs:.2f}"
        }

    return take.compare(
        "attest request, end to end over TLS kept alive",
        "one quote verification and one RSA-2048 signature",
        2.0,
        ours=lambda: many(attest.ask),
        theirs=lambda: many(alone),
        also=also,
    )


def released(take: Harness, release: Release) -> Row:
    """A token to a released key, compared with a vault without an enclave; additional figure: its public-key
    operations.
    """
    keys = KeySet.import_key_set(release.attest.published())

    def unwrapping(bits: int) -> Callable[[], bytes]:
        key = rsa.generate_private_key(65537, bits)
        wrapped = key.public_key().encrypt(bytes(32), OAEP)
        return lambda: key.decrypt(wrapped, OAEP)

    unwrap, own = unwrapping(2048), unwrapping(release.recipient.key_size)

    def work(unwrap: Callable[[], bytes]) -> None:
        inner = unwrap()
        jwt.decode(release.token, keys, algorithms=["RS256"])
        release.recipient.encrypt(inner, OAEP)
        keywrap.aes_key_wrap_with_padding(inner, bytes(1200))

    def alone() -> None:
        work(unwrap)

    def opened() -> None:
        release.ask()
        own()

    def also() -> dict[str, str]:
        taken = [(many(release.ask), many(ask), many(alone)) for _ in range(5)]
        ratios = (
            [ours / theirs for ours, _, theirs in taken],
            [plain / theirs for _, plain, theirs in taken],
            [many(opened) / many(lambda: work(own)) for _ in range(5)],
        )
        against, itself, end = (f"{statistics.median(each):.2f}" for each in ratios)
        return {
            "against only its RSA unwrap, JWT verification and wrap (was held to 2.5)": against,
            "that vault, against the same": itself,
            f"until it is unwrapped there, RSA-{release.recipient.key_size} on both sides": end,
            f"releases a second, {CLIENTS} clients at once": f"{at_once(release):.0f}",
        }

    with plain_vault(release) as ask:
        return take.compare(
            "key release, end to end over TLS kept alive",
            "a vault without an enclave, under uvicorn: the same token, wrap and signature, one row of SQLite"
            " on its disk",
            2.0,
            ours=lambda: many(release.ask),
            theirs=lambda: many(ask),
            also=also,
        )


def at_once(release: Release) -> float:
    """Releases per second to several clients, each on its own connection."""
    clients = [release.again() for _ in range(CLIENTS)]
    threads = [threading.Thread(target=many, args=(client.ask,)) for client in clients]

    def work() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return CLIENTS * REQUESTS / timed(work)


@contextmanager
def plain_vault(release: Release) -> Iterator[Callable[[], object]]:
    """Request a key from an unprotected vault, with the same token and the same client."""
    with tempfile.TemporaryDirectory() as made:
        state = Path(made)
        (state / "keys.json").write_text(json.dumps(release.attest.published()), encoding="utf-8")
        (state / "recipient.pem").write_bytes(
            release.recipient.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        with outside(PLAIN_VAULT, "app:vault", VAULT_STATE=made) as url:
            client = Kept(url.rstrip("/"), unchecked())
            body = json.dumps({"target": release.token}).encode()
            request = client.request("POST", "/", body, {"Content-Type": "application/json"})
            yield lambda: client.send(request)


def doubled(take: Harness, folder: Path, root: bytes, one: Serving, made: Evidence) -> Row:
    """Processor seconds per request of two instances on one database, compared with one instance."""
    with running(folder, root, 2) as two:
        return take.compare(
            "processor seconds a request, two instances on one database",
            "one instance",
            1.15,
            rounds=ROUNDS,
            ours=lambda: processor_seconds(two, made),
            theirs=lambda: processor_seconds(one, made),
        )


class HungUp(RuntimeError):
    """The connection ended before an answer was complete."""


class Kept:
    """A minimal client with one connection."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self._host, _, port = url.removeprefix("https://").partition(":")
        self._port, self._context = int(port), context
        self._connect()

    def _connect(self) -> None:
        raw = socket.create_connection((self._host, self._port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = self._context.wrap_socket(raw, server_hostname=self._host)

    def request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """The bytes of one request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def send(self, request: bytes) -> bytes:
        """Send it, and read the answer's body; on a new connection if the old one was closed."""
        try:
            self._socket.sendall(request)
            data = self._read()
        except (OSError, HungUp):
            self._connect()
            self._socket.sendall(request)
            data = self._read()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._read()
        head = data[:end].lower()
        size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(data) < end + 4 + size:
            data += self._read()
        if b" 200 " not in head[:16]:
            raise RuntimeError(data.decode(errors="replace"))
        return data[end + 4 :]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise HungUp("the service closed the connection")
        return part


class Attest:
    """One quote, attested repeatedly."""

    def __init__(self, running: Serving, made: Evidence) -> None:
        self.made = made
        self._client = Kept(running.addresses["attestation"], believing(running))
        body = json.dumps(
            {
                "quote": url64(made.quote),
                "runtimeData": {"data": url64(made.runtime_data), "dataType": "JSON"},
            }
        ).encode()
        path = "/attest/SgxEnclave?api-version=2022-08-01"
        self._request = self._client.request("POST", path, body, {"Content-Type": "application/json"})

    def ask(self) -> str:
        """Request a token."""
        return str(json.loads(self._client.send(self._request))["token"])

    def published(self) -> dict[str, Any]:
        """The service's keys."""
        document: dict[str, Any] = json.loads(
            self._client.send(self._client.request("GET", "/certs", b"", {}))
        )
        return {"keys": [{**one, **numbers(one)} for one in document["keys"]]}


class Release:
    """One key, released repeatedly to one environment."""

    def __init__(self, running: Serving, attest: Attest) -> None:
        self.attest, self.token = attest, attest.ask()
        self._running = running
        self._client = self._connected()
        headers = {"Authorization": f"Bearer {bearer(running)}", "Content-Type": "application/json"}
        claims = json.loads(base64.urlsafe_b64decode(self.token.split(".")[1] + "=="))
        runtime = claims["x-ms-runtime"]["keys"][0]
        self.recipient = rsa.RSAPublicNumbers(of64(runtime["e"]), of64(runtime["n"])).public_key()
        condition = {"claim": "x-ms-sgx-mrenclave", "equals": claims["x-ms-sgx-mrenclave"]}
        rule = {"version": "1.0.0", "anyOf": [{"authority": claims["iss"], "allOf": [condition]}]}
        asked = {
            "kty": "RSA-HSM",
            "key_size": 2048,
            "attributes": {"exportable": True},
            "release_policy": {"data": url64(json.dumps(rule).encode())},
        }
        self._ask(headers, "/keys/bench/create", asked)
        self._request = self._made(headers, "/keys/bench/release", {"target": self.token})

    def ask(self) -> None:
        """One release."""
        self._client.send(self._request)

    def again(self) -> Release:
        """The same, on a new connection."""
        other = copy.copy(self)
        other._client = self._connected()
        return other

    def _connected(self) -> Kept:
        return Kept(self._running.addresses["keyvault"], believing(self._running))

    def _ask(self, headers: dict[str, str], path: str, body: Any) -> None:
        self._client.send(self._made(headers, path, body))

    def _made(self, headers: dict[str, str], path: str, body: Any) -> bytes:
        return self._client.request("POST", f"{path}?api-version=7.4", json.dumps(body).encode(), headers)


def many(work: Any) -> float:
    """The mean time of many calls, one after the other."""
    work()
    return timed(lambda: [work() for _ in range(REQUESTS)]) / REQUESTS


def processor_seconds(running: Serving, made: Evidence) -> float:
    """Processor time of the enclaves and this process per request, with several clients at once."""
    pids = [one.enclave.pid for one in running.fleets[0].instances]
    clients = [Attest(running, made) for _ in range(CLIENTS)]
    before = sum(map(spent, pids))

    def ask(client: Attest) -> None:
        for _ in range(REQUESTS):
            client.ask()

    threads = [threading.Thread(target=ask, args=(one,)) for one in clients]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return (sum(map(spent, pids)) - before) / (CLIENTS * REQUESTS)


def spent(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def state() -> Iterator[Path]:
    """A folder for the services, whose images are built once."""
    folder = Path(tempfile.mkdtemp(prefix="kluis-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(folder: Path, root: bytes, instances: int) -> Iterator[Serving]:
    """Attestation and key release, on their own database."""
    plan = Plan(
        services=("attestation", "keyvault"),
        state=folder,
        database=f"sqlite:///{folder / f'services-{instances}.db'}",
        port=0,
        instances=instances,
        given={"attestation": {"roots": [{"pem": b64.encode(root), "level": None}]}},
    )
    with serving(plan, SystemClock(), lambda line: None, log=lambda lines: None) as made:
        yield made


def believing(running: Serving) -> ssl.SSLContext:
    """TLS that trusts only the services' authority."""
    return ssl.create_default_context(cadata=running.authority.root_pem().decode())


def bearer(running: Serving) -> str:
    """The administrator's token for the vault."""
    form = {
        "grant_type": "client_credentials",
        "client_id": "admin",
        "client_secret": running.issuer.clients["admin"].secret,
        "scope": "https://vault.azure.net/.default",
    }
    with httpx.Client(verify=believing(running), timeout=60) as client:
        answer = client.post(f"{running.issuer.authorization}/oauth2/v2.0/token", data=form)
    return str(answer.json()["access_token"])


def numbers(jwk: dict[str, Any]) -> dict[str, str]:
    """``n`` and ``e`` of a key that is published only as a certificate."""
    from cryptography import x509

    key = x509.load_der_x509_certificate(base64.b64decode(jwk["x5c"][0])).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    read = key.public_numbers()
    return {
        name: url64(value.to_bytes((value.bit_length() + 7) // 8))
        for name, value in (("n", read.n), ("e", read.e))
    }


def url64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def of64(text: str) -> int:
    """A number in base64url."""
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


OAEP: Final = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
