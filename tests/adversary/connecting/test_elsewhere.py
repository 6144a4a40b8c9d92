"""Responses that lead a client past the proxy, and what a browser sends to every port of loopback."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from kluis.connect.admission import Admission
from kluis.connect.heads import read_request, read_response

PROXY = "http://127.0.0.1:8080/"


def admission(authority: str = "enclave:8443") -> Admission:
    return Admission(authority, hosts=frozenset(), origins=frozenset(), token=None)


def location_of(where: str, authority: str = "enclave:8443") -> str:
    """The address that a client goes to."""
    head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {where}".encode()
    written = admission(authority).answer(read_response(head), []).decode()
    (found,) = [line for line in written.split("\r\n") if line.startswith("Location: ")]
    return urljoin(PROXY, found.removeprefix("Location: "))


@pytest.mark.parametrize(
    ("authority", "where"),
    [
        ("enclave:8443", "https://enclave:8443/a?b"),
        ("enclave:8443", "HTTPS://ENCLAVE:8443/a?b"),
        ("enclave:8443", "http://enclave:8443/a?b"),
        ("enclave:8443", "//enclave:8443/a?b"),
        ("enclave:443", "https://enclave/a?b"),
        ("enclave:443", "https://enclave:443/a?b"),
        ("[::1]:8443", "https://[::1]:8443/a?b"),
    ],
)
def test_a_redirect_to_the_enclave(authority: str, where: str) -> None:
    """Each way to write the enclave's address leads to the proxy: nothing goes past its verification."""
    assert location_of(where, authority) == PROXY + "a?b"


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example/x", "/\t/evil.example/x"])
def test_a_path_that_reads_as_a_host(path: str) -> None:
    """The enclave's own path stays at the proxy: without its address, it would name another host."""
    found = location_of(f"https://enclave:8443{path}")
    assert found.startswith(PROXY)
    written = admission().answer(
        read_response(f"HTTP/1.1 307 R\r\nLocation: https://enclave:8443{path}".encode()), []
    )
    assert b"Location: /./" in written or b"Location: /.\\" in written


@pytest.mark.parametrize(
    "where", ["https://enclave:84430/", "https://enclave:8443.evil/", "https://enclave/", "/a", "https://e/"]
)
def test_a_redirect_to_elsewhere(where: str) -> None:
    """Another address is not the enclave's, and stays as it is."""
    assert location_of(where) == urljoin(PROXY, where)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("kluis-console-9000=secret", []),
        ("a=1; kluis-console-9000=secret; b=2", ["Cookie: a=1; b=2"]),
        ("a=1;kluis-console-9000=secret", ["Cookie: a=1"]),
        ("a=1; b=2", ["Cookie: a=1; b=2"]),
    ],
)
def test_the_consoles_session(sent: str, kept: list[str]) -> None:
    """The session of a console on another port does not reach the enclave."""
    head = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nCookie: {sent}".encode()
    lines = admission().admit(read_request(head)).decode().split("\r\n")
    assert [line for line in lines if line.lower().startswith("cookie:")] == kept
