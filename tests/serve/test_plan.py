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
            "service: want one of attestation, keyvault, ledger, provisioning, got 'bank'",
        ),
        ({"services": ()}, "services: want one or more, got none"),
        ({"instances": 0}, "instances: want 1..16, got 0"),
        ({"port": 65535}, "port: want 0..65529, got 65535"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed: dict[str, Any], message: str) -> None:
    """For a plan out of bounds the error states the limits."""
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
    """The refusal names the service, the port, and how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError) as caught, listening(plan(port=port)):
            pass
    assert caught.value.message == f"attestation: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert caught.value.hint == "--port N takes other ports, --port 0 takes free ones"


OWN = (Path("chain.pem"), Path("key.pem"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bind": "here"}, "--bind: want an IP address, got 'here'"),
        (
            {"bind": "0.0.0.0"},
            "--bind 0.0.0.0: want also the operator's certificate, got none: clients elsewhere would have to"
            " trust the loopback authority",
        ),
        (
            {"bind": "::"},
            "--bind ::: want also the operator's certificate, got none: clients elsewhere would have to"
            " trust the loopback authority",
        ),
        (
            {"bind": "0.0.0.0", "certificate": OWN},
            "--certificate: want the name that clients use first, got none",
        ),
        (
            {"certificate": OWN, "names": ("*.example.org",)},
            "--certificate: want the name that clients use first, got '*.example.org'",
        ),
        (
            {"insecure_expose_issuer": True},
            "--insecure-expose-issuer: want also --certificate, got no such option",
        ),
        (
            {"services": ("keyvault",), "certificate": OWN, "names": ("vault",)},
            "--name: want a name with a dot for a vault, as Azure's clients do, got 'vault'",
        ),
    ],
)
def test_a_front_that_is_not_complete(changed: dict[str, Any], message: str) -> None:
    """A service leaves loopback only with its operator's certificate, for a name that clients use."""
    with pytest.raises(UsageError) as caught:
        plan(**changed)
    assert caught.value.message == message


def test_what_is_bound_elsewhere() -> None:
    """The services listen where the operator asked; issuer and managed identity stay on loopback."""
    made = plan(
        services=("keyvault", "attestation"),
        bind="127.0.0.2",
        certificate=OWN,
        names=("services.example",),
        insecure_managed_identity=True,
    )
    with listening(made) as sockets:
        assert {name: one.getsockname()[0] for name, one in sockets.items()} == {
            "attestation": "127.0.0.2",
            "keyvault": "127.0.0.2",
            "issuer": "127.0.0.1",
            "insecure_managed_identity": "127.0.0.1",
        }
    assert [made.url(name, 1) for name in sockets] == [
        "https://services.example:1",
        "https://services.example:1",
        "https://localhost:1",
        "http://127.0.0.1:1",
    ]


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_warning_for_what_is_not_loopback(bind: str) -> None:
    """The operator is warned of each exposed part; on loopback there is nothing to warn of."""
    assert plan(bind="127.0.0.2").warnings() == []
    made = plan(bind=bind, certificate=OWN, names=("services.example",), insecure_expose_issuer=True)
    assert [line.partition(" ")[0] for line in made.warnings()] == ["warning:", "insecure:"]
    assert bind in made.warnings()[0]
    assert made.bind_address("issuer") == bind
    assert made.url("issuer", 1) == "https://services.example:1"


def test_an_address_that_this_machine_does_not_have() -> None:
    """The refusal names the address, and the command that lists those it has."""
    made = plan(bind="192.0.2.1", certificate=OWN, names=("services.example",))
    with pytest.raises(UnavailableError) as caught, listening(made):
        pass
    assert caught.value.message == (
        "attestation: cannot listen on 192.0.2.1:0: Cannot assign requested address"
    )
    assert caught.value.hint == "ip address lists this machine's addresses, for --bind"
