"""A vendors' service on loopback: real TLS under a test authority, answers as set by a test."""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kluis.evidence import Collateral
from tests.evidence.forge import NOW


class Reply(NamedTuple):
    """What is answered, and how slowly: ``drip`` seconds before each byte."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    drip: float = 0.0
    drip_headers: float = 0.0


class Service:
    """Answers paths from ``replies``, the last one repeatedly; ``asked`` has every path with its query,
    ``sent`` what was posted, ``whole`` the paths whose slow answer was sent to its end.
    """

    def __init__(self, folder: Path) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.asked: list[str] = []
        self.sent: list[bytes] = []
        self.whole: list[str] = []
        certificate = _authority(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up, on purpose
        self.server.block_on_close = False
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        self.trust = ssl.create_default_context(cafile=str(certificate))
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def put(self, path: str, *replies: Reply) -> None:
        self.replies[path] = list(replies)

    def reply(self, path: str) -> Reply:
        self.asked.append(path)
        found = self.replies.get(path.partition("?")[0], [Reply(404)])
        return found.pop(0) if len(found) > 1 else found[0]

    def serve_intel(self, given: Collateral, tee: str = "sgx", version: int = 4) -> None:
        """Put one platform's collateral where Intel's service, or a cache of it, has it."""
        base, crls = f"/{tee}/certification/v{version}", f"/sgx/certification/v{version}"
        prefix = "SGX-" if version == 3 else ""

        def crl(data: bytes) -> bytes:
            return data.hex().encode() if version == 3 else data

        self.put(f"{base}/tcb", signed("tcbInfo", given, f"{prefix}TCB-Info-Issuer-Chain"))
        self.put(f"{base}/qe/identity", signed("enclaveIdentity", given, "SGX-Enclave-Identity-Issuer-Chain"))
        chain = quote(given.pck_crl_issuer_chain, safe="")
        self.put(
            f"{crls}/pckcrl",
            Reply(body=crl(given.pck_crl), headers=(("SGX-PCK-CRL-Issuer-Chain", chain),)),
        )
        self.put(f"{crls}/rootcacrl", Reply(body=given.root_ca_crl.hex().encode()))
        self.put("/IntelSGXRootCA.der", Reply(body=given.root_ca_crl))


def signed(member: str, given: Collateral, header: str) -> Reply:
    """Intel's answer for a signed document."""
    name = "tcb_info" if member == "tcbInfo" else "qe_identity"
    document, signature = getattr(given, name), getattr(given, f"{name}_signature")
    body = b'{"%s":%s,"signature":"%s"}' % (member.encode(), document, signature.hex().encode())
    chain = quote(getattr(given, f"{name}_issuer_chain"), safe="")
    return Reply(body=body, headers=((header, chain),))


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(OSError):
                self._answer(service.reply(self.path))

        def do_POST(self) -> None:
            service.sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.do_GET()

        def _answer(self, reply: Reply) -> None:
            if reply.drip_headers:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                for _ in range(1000):
                    time.sleep(reply.drip_headers)
                    self.wfile.write(b"x")
                service.whole.append(self.path)
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if not reply.drip:
                self.wfile.write(reply.body)
                return
            for byte in reply.body:
                time.sleep(reply.drip)
                self.wfile.write(bytes((byte,)))
            service.whole.append(self.path)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


def _authority(folder: Path) -> Path:
    """Make a self-signed certificate for loopback, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=900))
        .not_valid_after(NOW + timedelta(days=9000))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "loopback.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path
