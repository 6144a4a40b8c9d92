"""Run peers that serve: an application under uvicorn with default settings, with TLS by Python's ssl, without
an enclave.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kluis.enclave.attested_tls.link import make_certificate

START_SECONDS = 120.0


@contextmanager
def outside(folder: Path, application: str, **environment: str) -> Iterator[str]:
    """Serve ``application`` of the module in ``folder``; yields its address.

    It opens its port itself: on an inherited socket asyncio leaves Nagle's algorithm on, and a request takes
    44 ms.

    Args:
        folder: the folder of its module.
        application: in uvicorn's notation: ``app:web``.
        environment: additional variables.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as made:
        key, certificate = make_certificate()
        pem = Path(made) / "server.pem"
        pem.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )
        command = [
            *(sys.executable, "-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(port)),
            *("--ssl-keyfile", str(pem), "--ssl-certfile", str(pem), "--http", "h11", "--ws", "wsproto"),
            *("--no-access-log", "--log-level", "error", "--timeout-keep-alive", "3600"),
        ]
        child = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment})
        try:
            wait_for(port)
            yield f"https://127.0.0.1:{port}/"
        finally:
            child.terminate()
            child.wait()


def unchecked() -> ssl.SSLContext:
    """TLS without verification, for a peer on loopback with a self-signed certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def wait_for(port: int) -> None:
    """Wait until a server listens on ``port``."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
