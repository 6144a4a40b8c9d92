"""One of two enclaves of one author's: each tells a secret to its like, and to nobody else."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kluis import appraisal
from kluis.enclave import Enclave, asgi
from kluis.enclave.attested_tls.client import AttestedTransport
from kluis.enclave.attested_tls.judge import Judge, attest_self
from kluis.enclave.connected import Granted
from kluis.errors import KluisError
from kluis.evidence import Collateral, TrustAnchors

HERE = Path(__file__).parent
app = Enclave("pair", product_id=8, svn=1)
brought: list[bytes] = []


def standing() -> tuple[TrustAnchors, Collateral, datetime]:
    """The root is the image's own; the rest is the host's to bring."""
    root = (HERE / "root.crt").read_bytes()
    return TrustAnchors.from_pem(root), Collateral.from_json(brought[0]), datetime.now(UTC)


ALIKE = Judge(appraisal.loads((HERE / "peers.toml").read_bytes()), standing)


async def secret(request: Request) -> Response:
    """For its like."""
    return PlainTextResponse(f"for {asgi.attested_peer(request).claims.measurement.value.hex()}")


# On a loaded machine a peer's handshake may take longer than a server should wait for a stranger's.
PATIENT = asgi.Limits(handshake_seconds=600.0, head_seconds=600.0, stall_seconds=600.0, idle_seconds=600.0)
asgi.host(app, Starlette(routes=[Route("/secret", secret)]), peers=ALIKE, limits=PATIENT)


@app.ecall
def bring(collateral: bytes) -> None:
    """Take the platform's collateral."""
    brought[:] = [collateral]


@app.ecall(raises=(KluisError, httpx.HTTPError))
def ask() -> str:
    """Request the secret of the peer at the other end of the host's socket."""
    transport = AttestedTransport(ALIKE, present=attest_self, backend=Granted("connect:other"))
    with httpx.Client(transport=transport, timeout=120) as client:
        return client.get("https://other/secret").text
