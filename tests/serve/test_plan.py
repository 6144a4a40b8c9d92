"""What may be served, and where it is reached."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.serve.plan import Plan, listening


def plan(**changed: Any) -> Plan:
    """One that holds."""
    return Plan(**{"services": ("attestation",), "state": Path("state"), "port": 0, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"services": ("bank",)},
            "service: want one of attestation, keyvault, ledger, provisioning, got bank",
        ),
        ({"services": ()}, "services: want one or more, got none"),
        ({"instances": 0}, "instances: want 1..16, got 0"),
        ({"port": 65535}, "port: want 0..65529, got 65535"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed: dict[str, Any], message: str) -> None:
    """A plan out of bounds says what it wants."""
    with pytest.raises(UsageError) as caught:
        plan(**changed)
    assert caught.value.message == message


def test_only_loopback_is_listened_on() -> None:
    """Every socket is on 127.0.0.1: the services', and the issuer's."""
    with listening(plan(services=("keyvault", "attestation"))) as sockets:
        assert list(sockets) == ["attestation", "keyvault", "issuer"]
        assert {one.getsockname()[0] for one in sockets.values()} == {"127.0.0.1"}


def test_a_managed_identity_is_listened_for_where_it_is_asked_for() -> None:
    """It is off otherwise; it is the last, and on loopback too."""
    with listening(plan(insecure_managed_identity=True)) as sockets:
        assert list(sockets) == ["attestation", "issuer", "insecure_managed_identity"]
        assert {one.getsockname()[0] for one in sockets.values()} == {"127.0.0.1"}


def test_a_port_that_is_taken_is_named() -> None:
    """The refusal says which service, which port, and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError) as caught, listening(plan(port=port)):
            pass
    assert caught.value.message == f"attestation: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert caught.value.hint == "kluis serve ... --port N begins at another port, --port 0 takes free ones"
