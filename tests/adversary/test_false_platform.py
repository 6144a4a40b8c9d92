"""Another user, who answers in a platform's place: at a socket in a folder that both can write."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee import places
from kluis.tee.platform import start
from kluis.tee.platform.client import Platform
from tests.adversary import attacks

ROOT = "-----BEGIN CERTIFICATE-----\nof whoever answers\n-----END CERTIFICATE-----\n"
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What a false platform is asked, of a user who named a folder in ``/tmp`` that another made first."""
    with tempfile.TemporaryDirectory(prefix="kluis-false-") as name:
        home = Path(name)
        home.chmod(0o777)
        monkeypatch.setenv("KLUIS_HOME", name)
        os.seteuid(attacks.NOBODY)
        try:
            (home / "run").mkdir()
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(str(places.mine().socket))
            os.chmod(places.mine().socket, 0o666)
            listener.listen()
        finally:
            os.seteuid(0)
            home.chmod(0o755)
        heard = list[bytes]()
        serving = threading.Thread(target=serve, args=(listener, heard))
        serving.start()
        yield heard
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(attacks.SOON)
        listener.close()


def serve(listener: socket.socket, heard: list[bytes]) -> None:
    """Answer each request as a platform would."""
    try:
        while True:
            with listener.accept()[0] as connection:
                if data := connection.recv(1 << 16):
                    heard.append(data)
                    connection.send(json.dumps({"root": ROOT, "pid": os.getpid()}).encode())
    except OSError:
        return


@NEEDS_ROOT
def test_another_users_platform_is_not_asked(asked: list[bytes]) -> None:
    """Its root would be trusted as this machine's, and it would get images and what they are called with."""
    with pytest.raises(UnavailableError, match=f"owner: want 0, got {attacks.NOBODY}") as refused:
        Platform(places.mine()).root_pem()
    assert refused.value.code == "state_owner"
    assert not start.answers(places.mine())
    with pytest.raises(UnavailableError, match=f"owner: want 0, got {attacks.NOBODY}"):
        Platform.connect()
    assert asked == []
