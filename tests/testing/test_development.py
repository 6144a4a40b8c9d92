"""A project under development: each start runs its files, and an error leaves the last start running."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kluis.errors import KluisError, UnavailableError, UsageError
from kluis.projects import template, write
from kluis.testing.development import Development, changes
from kluis.testing.rehearsal import RehearsalPlatform


@pytest.fixture
def socket_of_loopback() -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def listen() -> socket.socket:
        opened.append(socket.create_server(("127.0.0.1", 0)))
        return opened[-1]

    yield listen
    for one in opened:
        one.close()


def test_each_start_runs_the_files_as_they_are(
    tmp_path: Path, rehearsal_platform: RehearsalPlatform, socket_of_loopback: Callable[[], socket.socket]
) -> None:
    """A change is in the next start; if that fails, the rehearsal before it goes on; its end ends all."""
    folder = write("cohort", template("ecall"), tmp_path).folder
    app, ages = folder / "app.py", [61, 58, 70, 66, 49]
    right = app.read_text()
    with Development(folder, rehearsal_platform, socket_of_loopback) as running:
        first = running.restart()
        assert first.mean_age(ages) == 60.8
        assert running.listener is None

        app.write_text(right.replace("return sum", "return 1 + sum"))
        second = running.restart()
        assert second.mean_age(ages) == 61.8
        assert not Path(f"/proc/{first.pid}/exe").exists(), "the first one has ended"

        app.write_text(right + "x = (\n")
        with pytest.raises(KluisError, match="SyntaxError"):
            running.restart()
        assert second.mean_age(ages) == 61.8
    assert not Path(f"/proc/{second.pid}/exe").exists()


def test_an_asgi_application_keeps_its_port(
    tmp_path: Path, rehearsal_platform: RehearsalPlatform, socket_of_loopback: Callable[[], socket.socket]
) -> None:
    """The next start serves on the same socket."""
    folder = write("shop", template("api"), tmp_path).folder
    app = folder / "app.py"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def title() -> str:
        assert running.listener is not None
        url = f"https://127.0.0.1:{running.listener.getsockname()[1]}/openapi.json"
        with urllib.request.urlopen(url, context=context, timeout=120) as answer:
            return str(answer.read())

    with Development(folder, rehearsal_platform, socket_of_loopback) as running:
        running.restart()
        listener = running.listener
        assert '"shop"' in title()
        app.write_text(app.read_text().replace('title="shop"', 'title="market"'))
        running.restart()
        assert running.listener is listener
        assert '"market"' in title()
        assert running.fault() is None


def test_what_is_no_project(tmp_path: Path, rehearsal_platform: RehearsalPlatform) -> None:
    """A folder without kluis.toml, and no folder, are refused with the command that writes one."""

    def never() -> socket.socket:
        raise AssertionError

    for folder, got in ((tmp_path, "a folder without one"), (tmp_path / "gone", "no folder")):
        with pytest.raises(UsageError) as refused:
            Development(folder, rehearsal_platform, never)
        assert refused.value.message == f"{folder}: want a project with a kluis.toml, got {got}"
        assert "kluis new NAME" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            'entry = "inner.app:app"',
            "kluis.toml: entry: want \"MODULE:app\" for a rehearsal, got 'inner.app:app'",
        ),
        ('entry = "other:app"', "{folder}: want other.py, found none"),
        (
            'requirements = ["no-such-package-of-kluis>=3"]',
            "kluis.toml: requirements: no-such-package-of-kluis: not installed here, where a rehearsal runs",
        ),
    ],
)
def test_what_cannot_be_rehearsed(
    settings: str, message: str, tmp_path: Path, rehearsal_platform: RehearsalPlatform
) -> None:
    """An entry that a rehearsal does not find, and a requirement that is missing here, are errors."""
    (tmp_path / "kluis.toml").write_text(settings)

    def never() -> socket.socket:
        raise AssertionError

    with (
        Development(tmp_path, rehearsal_platform, never) as running,
        pytest.raises((UsageError, UnavailableError)) as refused,
    ):
        running.restart()
    assert refused.value.message == message.format(folder=tmp_path)


def test_changes_are_seen(tmp_path: Path) -> None:
    """A changed file is a change; images, keys and bytecode are ignored; a stop ends the watch."""
    stopped = threading.Event()
    seen = changes(tmp_path, stopped.is_set)
    assert next(seen) is False
    (tmp_path / "a.kluis").write_bytes(b"image")
    (tmp_path / "author.pem").write_bytes(b"key")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "app.pyc").write_bytes(b"code")
    assert [next(seen) for _ in range(4)] == [False] * 4
    (tmp_path / "app.py").write_text("x = 1")
    assert any(next(seen) for _ in range(120))
    stopped.set()
    assert not any(seen)
