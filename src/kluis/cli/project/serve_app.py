"""``kluis serve-app``: serve an image's ASGI application, without a program for its host."""

from __future__ import annotations

import collections
import contextlib
import os
import shlex
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from kluis import appraisal
from kluis.cli import render
from kluis.cli.image import protections
from kluis.cli.image.run import printing
from kluis.cli.parameters import argument, option
from kluis.cli.service.serve_options import Metrics, Otlp
from kluis.cli.signals import Asked
from kluis.cli.signals import listening as signals
from kluis.errors import KluisError, UsageError
from kluis.evidence import ProtectionLevel
from kluis.formats.kluis.launch import UNWITNESSED
from kluis.serve.addresses import Address
from kluis.serve.application import Application, ServedApplication, application_of, listening

LOOK_SECONDS: Final = 1.0
# As many ends of enclaves, in this time, are not accidental.
MOST_FAULTS: Final = 5
FAULT_SECONDS: Final = 300.0


def serve_app(
    image: Annotated[Path, argument("A .kluis image.", "IMAGE")],
    listen: Annotated[str, option("Where; port 0 takes a free one.", "ADDRESS:PORT")] = "127.0.0.1:8443",
    instances: Annotated[int, option("Enclaves that share the port.", "N")] = 1,
    metrics: Metrics = None,
    otlp: Otlp = None,
    policy_out: Annotated[Path | None, option("Write a policy for clients of this image.", "FILE")] = None,
    missing: protections.Missing = None,
) -> None:
    """Serve an image's ASGI application until Ctrl-C or SIGTERM; TLS ends inside the enclave.

    SIGHUP starts the image as its file is then, and drains the old enclaves; no client is refused.

    For example: kluis serve-app api.kluis --listen 127.0.0.1:8443
    """
    application = application_of(image)
    allowed = protections.parse_protections(missing)
    if otlp is not None:
        _check_traced(application, otlp)
    if policy_out is not None and os.path.lexists(policy_out):
        raise UsageError(f"{policy_out}: exists already", hint="name another file, or remove it first")
    ocalls = {name: printing(name) for name in application.ocalls}
    with signals() as requests, listening(listen) as listener:
        served = ServedApplication(
            application, listener, instances, ocalls=ocalls, insecure_allow_missing=allowed
        )
        with served, _metrics(served, metrics), _traces(served, otlp):
            requests.ready = True
            if policy_out is not None:
                render.save(policy_out, _policy(served, allowed), must_be_new=True)
            url = f"https://{Address(*listener.getsockname()[:2])}"
            render.out(*_describe_served(served, url, policy_out, allowed))
            _watch(served, requests)
            render.report("kluis: draining")


@contextlib.contextmanager
def _metrics(served: ServedApplication, address: str | None) -> Iterator[None]:
    if address is None:
        yield
        return
    from kluis.serve.observing import observing  # the extra services

    with observing.metrics(address, lambda: (served.fleet,)) as url:
        render.report(f"kluis: metrics at {url}")
        yield


def policy_command(image: Path, levels: Collection[str], missing: Collection[str]) -> str:
    """The command that writes a policy for exactly an image, at the levels at which it is served."""
    options = [word for level in sorted(levels) for word in ("--protection", level)]
    options += [word for name in sorted(missing) for word in ("--missing", name)]
    words = ["kluis", "policy", "init", "-o", "policy.toml", "--purpose", "channel"]
    return shlex.join([*words, "--image", str(image), *options])


def _check_traced(application: Application, otlp: str) -> None:
    """Refuse before the start what could have no spans.

    Raises:
        UsageError: the image lists no requests, or the URL is not a collector's.
    """
    from kluis.serve.observing.traces import check  # the extra otel

    check(otlp)
    if not application.traced:
        raise UsageError(
            f"--otlp: want an image with the ecall recent_requests, got {application.path} without it",
            hint="kluis build builds it with this version of Kluis",
        )


def _traces(served: ServedApplication, otlp: str | None) -> AbstractContextManager[None]:
    if otlp is None:
        return contextlib.nullcontext()
    from kluis.serve.observing import recent

    return recent.tracing(otlp, served.fleet, lambda: datetime.now(UTC))


def _describe_served(
    served: ServedApplication, url: str, policy: Path | None, missing: frozenset[str]
) -> tuple[dict[str, Any], str]:
    application = served.application
    level = ", ".join(served.levels)
    value = {
        "url": url,
        "image_id": application.image_id.hex(),
        "level": level,
        "policy": str(policy) if policy else None,
        "pid": os.getpid(),
        "enclaves": list(served.pids),
    }
    rows = [
        ("url", url),
        ("image_id", application.image_id.hex()),
        ("level", level),
        ("enclaves", " ".join(map(str, served.pids))),
        ("policy", str(policy or policy_command(application.path, set(served.levels), missing))),
        ("client", f'httpx.Client(transport=kluis.host.attested.transport("{policy or "policy.toml"}"))'),
    ]
    return value, render.table(rows)


def _policy(served: ServedApplication, missing: frozenset[str]) -> bytes:
    """A policy that accepts exactly this image, at the level at which it runs."""
    return appraisal.dumps(
        appraisal.strict(
            appraisal.ByImage(image_ids=frozenset({served.application.image_id})),
            protection=frozenset(map(ProtectionLevel, served.levels)),
            purpose=appraisal.Purpose.CHANNEL,
            counters=frozenset({UNWITNESSED}),
            missing=missing,
        )
    ).encode()


def _watch(served: ServedApplication, requests: Asked) -> None:
    """Keep the enclaves running until a stop is requested.

    Raises:
        KluisError: they end repeatedly; states why the last one did.
    """
    recent: collections.deque[float] = collections.deque(maxlen=MOST_FAULTS)
    while not requests.stop:
        requests.wake.wait(LOOK_SECONDS)
        requests.wake.clear()
        if requests.replace:
            requests.replace = False
            _replace(served)
        for fault in served.fleet.repair():
            recent.append(time.monotonic())
            render.report(f"kluis: an enclave ended and was restarted: {fault.message}")
            if len(recent) == MOST_FAULTS and recent[-1] - recent[0] < FAULT_SECONDS:
                raise fault


def _replace(served: ServedApplication) -> None:
    try:
        served.replace()
    except KluisError as error:
        render.report("kluis: not replaced: the enclaves that run continue")
        render.report_error(error)
        return
    pids, image_id = " ".join(map(str, served.pids)), served.application.image_id.hex()
    render.report(f"kluis: every enclave was replaced by image {image_id}; enclaves now: {pids}")
