"""What a host does for its services, and what it does not."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.services.running import errands
from kluis.services.running.errands import Errands
from tests.services.web.issuer import FixedClock


def made(tmp_path: Path, origins: dict[str, ssl.SSLContext | None]) -> Errands:
    """Errands of a host that asks nobody else."""
    return Errands(lambda request: request, origins, cache=tmp_path, online=False, clock=FixedClock())


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/certs",
        "http://localhost:8443/certs",
        "https://localhost:8443@elsewhere.example/certs",
        "https://localhost:8443/certs?next=https://elsewhere.example",
        "https://localhost:84430/certs",
        "file:///etc/passwd",
        "https://[::1",
        "",
    ],
)
def test_only_configured_origins_are_asked(tmp_path: Path, url: str) -> None:
    """An enclave's host fetches from whom its operator named, whatever address comes out."""
    host = made(tmp_path, {"https://localhost:8443": None})
    with pytest.raises(
        UnavailableError, match=r"^fetch: want an address of \['https://localhost:8443'\], got "
    ):
        host.fetch(url)


def test_what_nobody_keeps_endorses_nothing(tmp_path: Path) -> None:
    """Evidence of hardware without kept documents, and what is no evidence, get nothing, and no error."""
    host = made(tmp_path, {})
    assert host.endorse("sgx", b"no quote") == b""
    assert host.endorse("snp", bytes(1184)) == b""


def test_makers_documents_that_are_not_kept_are_not_there(tmp_path: Path) -> None:
    """The answer says so, and is empty."""
    found = made(tmp_path, {}).published("/sgx/certification/v4/rootcacrl", {})
    assert (found.found, found.headers, found.body) == (False, {}, b"")


def test_log_lines_cannot_draw_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters from inside are shown as question marks."""
    errands._write(["plain", "bad\x1b[2J\nnext"])
    assert capsys.readouterr().err == "plain\nbad?[2J?next\n"
