"""An ASGI application inside, over one attested TLS connection, compared with the same under uvicorn
outside.
"""

from __future__ import annotations

import os
import socket
import statistics
from pathlib import Path

import httpx

from bench.harness import Harness, Row, duration, timed
from bench.images import image
from bench.outside import outside, unchecked
from kluis.appraisal import ByImage, strict
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.runtime_data import Purpose
from kluis.host import attested, load

APP = Path(__file__).resolve().parents[1] / "apps" / "web"
REQUESTS = 300
BODY = os.urandom(1000)


def rows(take: Harness) -> list[Row]:
    """One row: the time of a request of 1000 bytes, as the mean of 300 on one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = image("web")
        with load(served, sockets={"listen:web": listener}) as enclave, outside(APP, "app:web") as other:
            enclave.submit("serve")
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            policy = strict(
                ByImage(image_ids=frozenset({enclave.image_id})),
                protection=frozenset({ProtectionLevel.PROCESS, ProtectionLevel.PROCESS_USER}),
                purpose=Purpose.CHANNEL,
                counters=frozenset({"unwitnessed"}),
                missing=frozenset(),
            )

            def connect() -> float:
                with httpx.Client(transport=attested.transport(policy)) as client:
                    return timed(lambda: client.post(url, content=BODY))

            with (
                httpx.Client(transport=attested.transport(policy)) as ours,
                httpx.Client(verify=unchecked()) as theirs,
            ):
                row = take.compare(
                    "ASGI app inside the process TEE, attested TLS kept alive, time a request",
                    "the same app under uvicorn with TLS outside",
                    1.4,
                    ours=lambda: requests(ours, url),
                    theirs=lambda: requests(theirs, other),
                    also=lambda: {
                        "first request: handshake, quote, verification and policy": duration(
                            statistics.median(connect() for _ in range(9))
                        )
                    },
                )
    return [row]


def requests(client: httpx.Client, url: str) -> float:
    """The mean time of many requests, one after the other."""
    client.post(url, content=BODY).raise_for_status()
    return (
        timed(lambda: [client.post(url, content=BODY).raise_for_status() for _ in range(REQUESTS)]) / REQUESTS
    )
