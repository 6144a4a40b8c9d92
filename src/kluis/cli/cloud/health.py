"""Ask the services of a local cloud whether they are ready, over TLS."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from kluis.serve.cloud.folder import Folder
from kluis.serve.cloud.record import Run

SECONDS: Final = 10.0
PATH: Final = "/health/ready"


def ready(folder: Folder, run: Run) -> dict[str, bool]:
    """Whether each service answers that it can work now, by its name."""
    if run.phase != "ready":
        return {each.name: False for each in run.services}
    context = ssl.create_default_context(cafile=folder.authority)
    if folder.ledger_certificate.exists():  # a ledger has its own certificate, which no authority signs
        context.load_verify_locations(folder.ledger_certificate)
    if run.certificate:  # the chain itself is trusted, regardless of its issuer
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        with contextlib.suppress(OSError):  # it was removed: then the services cannot be verified
            context.load_verify_locations(run.certificate)
    with ThreadPoolExecutor(max(1, len(run.services))) as threads:
        answers = threads.map(lambda each: _answers(each.url, context), run.services)
        return dict(zip((each.name for each in run.services), answers, strict=True))


def _answers(url: str, context: ssl.SSLContext) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=SECONDS, context=context
    )
    try:
        connection.request("GET", PATH)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
