"""The host of the web service, and a client of it, who need not trust the host.

python examples/web/host.py web.kluis
"""

from __future__ import annotations

import socket
import sys

import httpx

from kluis.appraisal import ByImage, Policy, Purpose, strict
from kluis.errors import KluisError
from kluis.evidence import ProtectionLevel
from kluis.host import attested, load


def main(path: str) -> None:
    """Serve, be called by a client that knows whom it wants, and drain."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/mean"
        with load(path, sockets={"listen:web": listener}) as enclave:
            serving = enclave.submit("serve")
            print(call(url, enclave.image_id))
            print(call(url, bytes(32)))
            enclave.drain(5.0)
            serving.result(timeout=10)


def call(url: str, image_id: bytes) -> str:
    """The client's part: send five ages to this image only, and return its answer."""
    with httpx.Client(transport=attested.transport(wanted(image_id)), timeout=60) as client:
        try:
            return f"answered by the image: {client.post(url, json=[61, 58, 70, 66, 49]).json()}"
        except KluisError as error:
            return f"nothing was sent: {error}"


def wanted(image_id: bytes) -> Policy:
    """One image, kept apart by this machine's Linux."""
    return strict(
        ByImage(image_ids=frozenset({image_id})),
        protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
        purpose=Purpose.CHANNEL,
        counters=frozenset({"unwitnessed"}),
        missing=frozenset(),
    )


if __name__ == "__main__":
    main(sys.argv[1])
