"""Run the proxy of ``kluis connect`` until a signal stops it; needs the packages of an extra."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kluis.appraisal import Policy
from kluis.cli import render
from kluis.cli.evidence import files
from kluis.cli.evidence import roots as root_files
from kluis.connect.admission import Admission
from kluis.connect.enclave import Enclave, Verdict
from kluis.connect.limits import Limits
from kluis.connect.opening import Opener
from kluis.connect.proxy import Proxy
from kluis.enclave.attested_tls.introduction import ClientEnd
from kluis.enclave.attested_tls.judge import Judge
from kluis.evidence import Collateral, TrustAnchors
from kluis.serve.addresses import Address
from kluis.tee import backends
from kluis.views.values import zulu


def judge(path: Path, policy: Policy, roots: list[Path], collateral: Path | None) -> Judge:
    """The judge of the enclave's evidence.

    Args:
        path: of the policy's file, next to which its emulated roots are.
        policy: that the enclave must meet.
        roots: files that are trusted in addition, PEM.
        collateral: the file that is read for each judgement; None: this platform's collateral.

    Raises:
        KluisError: a root cannot be used.
    """
    return Judge(policy, _standing(path, policy, roots, collateral))


def run(where: Address, listener: socket.socket, admission: Admission, judge: Judge) -> None:
    """Serve until a signal stops it.

    Raises:
        KluisError: the enclave is refused or unreachable at the start.
    """
    asyncio.run(_serve(where, listener, judge, admission, judge.evidence_seconds))


async def _serve(
    where: Address, listener: socket.socket, judge: Judge, admission: Admission, believed: float
) -> None:
    """Serve until a signal stops it."""
    limits = Limits()
    opener = Opener(where.host, where.port, ClientEnd(judge, None), limits.open_seconds)
    enclave = Enclave(opener, believed, limits, _note)
    proxy = Proxy(enclave, admission, limits, tunnel_seconds=judge.believed_seconds, report=_note)

    def ready() -> None:
        assert enclave.verdict is not None  # noqa: S101 - for mypy: it is ready because it has one
        render.out_row(*_describe_proxy(where, listener, enclave.verdict, believed))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, proxy.stop)
    await proxy.serve(listener, ready)
    _note("kluis: stopped")


def _describe_proxy(
    where: Address, listener: socket.socket, verdict: Verdict, believed: float
) -> tuple[dict[str, Any], str]:
    """What a program and a person read once the proxy is ready."""
    claims = verdict.result.claims
    here = f"http://{Address(*listener.getsockname()[:2])}"
    age = round(verdict.age_seconds, 3)
    value = {
        "listen": here,
        "enclave": f"https://{where}",
        "level": str(claims.level),
        "measurement": claims.measurement.value.hex(),
        "evidence_age_seconds": age,
        "evidence_expires_seconds": believed,
        "judged_at": zulu(verdict.result.appraised_at),
        "pid": os.getpid(),
    }
    text = (
        f"{here} forwards to https://{where}: level {claims.level}, evidence {age:.0f} s old, at most"
        f" {believed:.0f} s"
    )
    return value, text


def _note(text: str) -> None:
    render.report(text if text.startswith("kluis:") else f"kluis: {text}")


def _standing(
    path: Path, policy: Policy, roots: list[Path], collateral: Path | None
) -> Callable[[], tuple[TrustAnchors, Collateral, datetime]]:
    """What each judgement uses: its files are read again, because they are renewed."""
    anchors = root_files.anchors(roots, None, [path.parent / name for name in policy.emulated_roots])

    def standing() -> tuple[TrustAnchors, Collateral, datetime]:
        endorsed = backends.default().collateral() if collateral is None else files.read_filled(collateral)
        return anchors, Collateral.from_json(endorsed), datetime.now(UTC)

    return standing
