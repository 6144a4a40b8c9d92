"""What a host does for its services, and what it does not."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.serve import host_calls
from kluis.serve.host_calls import HostCalls, write
from kluis.services.hosting import Endorsed
from kluis.tee import places
from tests.evidence.forge import Forge
from tests.services.web.issuer import FixedClock


def made(tmp_path: Path, origins: dict[str, ssl.SSLContext | None]) -> HostCalls:
    """HostCalls of a host without other sources."""
    return HostCalls(
        lambda request: request, origins, cache=tmp_path, online=False, clock=FixedClock(), log=write
    )


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


def test_what_nobody_keeps_endorses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hardware evidence without cached documents, and other bytes, get nothing; the log has the reason."""
    host = made(tmp_path, {})
    nothing = host.endorse("sgx", b"no quote")
    assert nothing.document == b""
    assert nothing.why.startswith("evidence: is of no known kind; supported: ")
    found = host.endorse("sgx", Forge().with_header(user_data=bytes(20)))
    assert found.document == b""
    assert found.why == "tcb-info sgx e0e0e0000000 early: is not cached, and no connection is allowed"
    assert found.fix == "kluis serve --online, or kluis collateral fetch on the service's machine"
    assert capsys.readouterr().err.splitlines()[-1] == f"endorse sgx: {found.why} (hint: {found.fix})"


def test_an_emulated_quote_where_no_platform_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is that no platform runs, and the fix is to start one."""
    monkeypatch.setattr(places, "candidates", list)
    found = made(tmp_path, {}).endorse("sgx", Forge().quote())
    assert found == Endorsed(b"", "platform: not running", "kluis platform start")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/var/lib/kluis/cache: cannot be written", "(path): cannot be written"),
        ("platform '/run/kluis/socket': refused", "platform '(path)': refused"),
        ("CRL: https://pcs.example:443/sgx answers 500", "CRL: https://pcs.example:443/sgx answers 500"),
        ("QE identity/TCB info: 8 kB/s", "QE identity/TCB info: 8 kB/s"),
    ],
)
def test_a_hosts_folders_are_not_told(text: str, told: str) -> None:
    """A refusal leaves out where the host keeps its files. Addresses stay."""
    assert host_calls._without_paths(text) == told


def test_makers_documents_that_are_not_kept_are_not_there(tmp_path: Path) -> None:
    """The answer states that, and is empty."""
    found = made(tmp_path, {}).published("/sgx/certification/v4/rootcacrl", {})
    assert (found.found, found.headers, found.body) == (False, {}, b"")


def test_log_lines_cannot_draw_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters from inside are shown as question marks."""
    host_calls.write(["plain", "bad\x1b[2J\nnext"])
    assert capsys.readouterr().err == "plain\nbad?[2J?next\n"
