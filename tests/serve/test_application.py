"""An image's ASGI application on a socket: which images are one, and where they listen."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from kluis.errors import FormatError, UnavailableError, UsageError
from kluis.serve.application import Application, ServedApplication, application_of, listening
from tests.images import built

__all__ = ["built"]

HELLO = Path(__file__).parents[2] / "examples" / "hello"


def test_an_image_without_an_application(built: Callable[..., Path]) -> None:
    """An image that serves nothing is refused before it starts, with what it has to declare."""
    image = built(HELLO)
    with pytest.raises(UsageError) as refused:
        application_of(image)
    assert (
        refused.value.message
        == f"image {image}: want the ecalls serve and drain of an ASGI application, got none"
    )
    assert refused.value.code == "not_asgi"


def test_no_image(tmp_path: Path) -> None:
    """A file that is no image, or is not there, is an error that names it."""
    with pytest.raises(UsageError, match="No such file"):
        application_of(tmp_path / "gone.kluis")
    (tmp_path / "text").write_text("no image")
    with pytest.raises(FormatError, match="is no image"):
        application_of(tmp_path / "text")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "8443",
        ":8443",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:70000",
        "a:-1",
        "a..b:1",
        "a:" + "1" * 5000,
    ],
)
def test_no_address(address: str) -> None:
    """An address needs a host and a port."""
    with pytest.raises(UsageError) as refused, listening(address):
        pass
    assert refused.value.message == f"--listen: want ADDRESS:PORT, got {address[:80]!a}"


def test_a_port_in_use() -> None:
    """A port that another program has is an error that states how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UnavailableError) as refused, listening(address):
            pass
    assert refused.value.message == f"--listen: cannot listen on {address}: Address already in use"
    assert (refused.value.hint or "").startswith("--listen 127.0.0.1:0 takes a free port")
    assert refused.value.code == "port"


def test_an_address_of_another_machine() -> None:
    """An address that this machine does not have is the same error."""
    with pytest.raises(UnavailableError, match=r"cannot listen on 192.0.2.1:0: "), listening("192.0.2.1:0"):
        pass


def test_a_free_port_of_both_families() -> None:
    """Port 0 takes a free port, also of IPv6's loopback, if this machine has it."""
    with listening("127.0.0.1:0") as listener:
        assert listener.getsockname()[1] > 0
    if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
        with listening("[::1]:0") as listener:
            assert listener.getsockname()[0] == "::1"


@pytest.mark.parametrize("instances", [0, 17])
def test_how_many_enclaves(instances: int) -> None:
    """From one enclave to sixteen share a port."""
    application = Application(Path("web.kluis"), "web", bytes(32), "listen:web", (), traced=True)
    with listening("127.0.0.1:0") as listener, pytest.raises(UsageError, match=r"instances: want 1\.\.16"):
        ServedApplication(application, listener, instances)
