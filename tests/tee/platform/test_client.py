"""A host of a platform gets whole answers, or a precise error."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.places import Places
from kluis.tee.platform.client import Platform


@pytest.mark.parametrize("handed", [0, 1])
def test_a_launch_for_which_there_are_too_few_descriptors(tmp_path: Path, handed: int) -> None:
    """A process that may open no more files gets an error; the rest of the enclave is closed."""
    (tmp_path / "image").touch()
    places = Places(system=False, state=tmp_path, runtime=tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(places.socket))
        listener.listen()
        ended: list[bytes] = []

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                _, (image,), _, _ = socket.recv_fds(connection, 4096, 1)
                os.close(image)
                socket.send_fds(connection, [b"{}"], [connection.fileno()] * handed)
                ended.append(connection.recv(1))

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UnavailableError) as refused:
            Platform(places).launch(tmp_path / "image")
        thread.join(300)
    assert ended == [b""]
    assert refused.value.message == (
        f"platform: want 2 sockets of the enclave, got {handed}: this process may open no more files"
    )
    assert refused.value.hint == "ulimit -n 4096"


def test_a_platform_that_ends_with_a_request_unread(tmp_path: Path) -> None:
    """Its end resets the connection: that it hung up is said, of a launch and of a question."""
    (tmp_path / "image").touch()
    places = Places(system=False, state=tmp_path, runtime=tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(places.socket))
        listener.listen()

        def end() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1, socket.MSG_PEEK)

        thread = threading.Thread(target=end)
        thread.start()
        for ask in (lambda: Platform(places).launch(tmp_path / "image"), lambda: Platform(places).root_pem()):
            with pytest.raises(UnavailableError) as refused:
                ask()
            assert refused.value.code == "platform_gone"
        thread.join(300)
