"""An application that is a service and a client of its like, each end attested to the other."""

from datetime import UTC, datetime

import httpx
from policies import rehearsed
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kluis.appraisal import BySigner
from kluis.enclave import Enclave, asgi
from kluis.enclave.attested_tls.client import AttestedTransport
from kluis.enclave.attested_tls.judge import Judge, attest_self
from kluis.enclave.connected import Granted
from kluis.errors import KluisError
from kluis.evidence import Collateral, TrustAnchors

app = Enclave("mutual", product_id=6, svn=1)
trusted: list[bytes] = []


def standing() -> tuple[TrustAnchors, Collateral, datetime]:
    """What the test gave."""
    return TrustAnchors.from_pem(trusted[0]), Collateral.from_json(trusted[1]), datetime.now(UTC)


ALIKE = Judge(rehearsed(BySigner(signers=frozenset({bytes(32)}), product_id=6, min_svn=1)), standing)


async def secret(request: Request) -> Response:
    """Only for a known client."""
    return PlainTextResponse(f"for {asgi.attested_peer(request).claims.measurement.value.hex()}")


# On a loaded machine a peer's handshake may take longer than a server should wait for a stranger's.
PATIENT = asgi.Limits(handshake_seconds=600.0, head_seconds=600.0, stall_seconds=600.0, idle_seconds=600.0)
asgi.host(app, Starlette(routes=[Route("/secret", secret)]), peers=ALIKE, limits=PATIENT)


@app.ecall
def trust(root: bytes, collateral: bytes) -> None:
    """Name the root that both ends trust."""
    trusted[:] = [root, collateral]


@app.ecall(raises=(KluisError,))
def ask(url: str, attested: bool) -> str:
    """Ask another for its secret; attested to it, or not."""
    transport = AttestedTransport(ALIKE, present=attest_self if attested else None)
    with httpx.Client(transport=transport, timeout=120) as client:
        return client.get(url).text


brought = httpx.Client(
    transport=AttestedTransport(ALIKE, present=attest_self, backend=Granted("connect:other")), timeout=120
)


@app.ecall(raises=(KluisError, httpx.HTTPError))
def ask_over_it(path: str) -> str:
    """Ask another for something, over the socket that the host brought."""
    return brought.get(f"https://anybody{path}").text
