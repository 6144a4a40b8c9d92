"""``kluis console``: its address, its port, its browser, and its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kluis.cli.main import run
from kluis.console import server


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """The address that it prints opens the console; a signal ends it with 0, also with a page open."""
    main = "from kluis.cli.main import main; main()"
    line = [sys.executable, "-c", main, "console", "--no-open", "--port", "0", "--json"]
    started = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    connection: http.client.HTTPConnection | None = None
    try:
        assert started.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            read = started.stdout.readline()
            assert read, started.communicate(timeout=60)
            text += read
        printed = json.loads(text)
        address = urlsplit(printed["url"])
        assert (address.hostname or "").endswith(".localhost")
        assert address.port == printed["port"]
        connection = http.client.HTTPConnection("127.0.0.1", printed["port"], timeout=60)
        connection.request("GET", f"{address.path}?{address.query}", headers={"Host": address.netloc})
        answer = connection.getresponse()
        assert (answer.status, "server" in answer.headers) == (200, False)
        answer.read()
        started.send_signal(number)  # while the connection is kept
        _, errors = started.communicate(timeout=60)
    finally:
        if connection is not None:
            connection.close()
        started.kill()
        started.communicate()
    assert (started.returncode, errors) == (0, "")


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use is named, with the option that takes a free one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["console", "--no-open", "--port", str(port)]) == 7
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"kluis: error: console: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        "kluis: hint: kluis console --port 0 takes a free port\n"
        "kluis: code: console_port (kluis explain console_port)\n"
    )


def test_a_folder_that_is_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is no room is refused before anything is served."""
    assert run(["console", str(tmp_path), "--no-open", "--port", "0"]) == 7
    assert f"{tmp_path}: is not a room" in capsys.readouterr().err


def test_the_browser_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser's argument is a file that only this user can read, and that is removed at the end."""
    given: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: given.append(address) or True)
    with server.open_browser('http://127.0.0.1:1/open?token=secret"><b>') as shown:
        path = Path(urlsplit(given[0]).path)
        assert shown
        assert "secret" not in given[0]
        assert '0;url=http://127.0.0.1:1/open?token=secret&quot;&gt;&lt;b&gt;"' in path.read_text()
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.stat().st_uid == os.getuid()
    assert not path.parent.exists()


def test_no_browser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a browser the console serves, and states what to do."""

    def missing(_: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "open", missing)
    monkeypatch.setattr(server, "serve", lambda *_: None)
    assert run(["console", "--port", "0"]) == 0
    assert capsys.readouterr().err == (
        "kluis: no browser was found here: open the address above, or add --no-open\n"
    )
