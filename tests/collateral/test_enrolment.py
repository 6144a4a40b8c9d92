"""A platform's way to a provisioning service: what is sent, and each answer that can come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kluis.collateral.enrolment import PATH, Enrolling
from kluis.errors import FormatError, KluisError, PolicyError, UnavailableError
from kluis.evidence.intel.collateral import hold
from tests.collateral.service import Reply, Service
from tests.evidence.forge import NOW, Forge

REQUEST = b'{"a":"request"}'


@pytest.fixture
def enrolling(service: Service) -> Iterator[Enrolling]:
    with Enrolling(service.url, trust=service.trust) as made:
        yield made


def test_certified(service: Service, enrolling: Enrolling) -> None:
    """The request goes out as it is, once, and the chain comes back."""
    service.put(PATH, Reply(201, b'{"status":"certified","chain":"-----BEGIN"}'))
    assert enrolling.enrol(REQUEST) == b"-----BEGIN"
    assert (service.asked, service.sent) == ([PATH], [REQUEST])
    assert enrolling.name == service.url


def test_waiting(service: Service, enrolling: Enrolling) -> None:
    """A platform that must wait for the service's owner gets that answer."""
    service.put(PATH, Reply(202, b'{"status":"pending","chain":null}'))
    assert enrolling.enrol(REQUEST) is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "end"),
    [
        (
            403,
            b'{"error":{"code":"enrolment_level","message":"other\\u001b[2J level"}}',
            PolicyError,
            "enrolment_refused",
            "refuses (403): other?[2J level (enrolment_level)",
        ),
        (400, b"<html>", PolicyError, "enrolment_refused", "refuses (400): gives no reason"),
        (
            503,
            b'{"error":{"code":"enrolment_busy","message":"full"}}',
            UnavailableError,
            "service_refused",
            "answers 503, want 201 or 202: full (enrolment_busy)",
        ),
        (307, b"", UnavailableError, "service_refused", "answers 307, want 201 or 202: gives no reason"),
    ],
)
def test_refused(
    service: Service,
    enrolling: Enrolling,
    status: int,
    body: bytes,
    kind: type[KluisError],
    code: str,
    end: str,
) -> None:
    """A refusal has the service's reason, in printable text; a redirect is never followed."""
    service.put(PATH, Reply(status, body, (("Location", "/elsewhere"),)))
    with pytest.raises(kind) as caught:
        enrolling.enrol(REQUEST)
    assert caught.value.code == code
    assert caught.value.message == f"enrolment: {service.url} {end}"
    assert service.asked == [PATH]


def test_an_answer_that_is_none(service: Service, enrolling: Enrolling) -> None:
    """Certified without a chain is no answer."""
    service.put(PATH, Reply(201, b"{}"))
    with pytest.raises(FormatError) as caught:
        enrolling.enrol(REQUEST)
    assert caught.value.message == "enrolment: member 'chain' is missing"


def test_collateral(service: Service, enrolling: Enrolling, forge: Forge) -> None:
    """What the service publishes of its platforms is put together, and verifies under its root."""
    service.serve_intel(forge.collateral())
    found = enrolling.collateral(forge.authority.state.fmspc, NOW)
    hold(found, forge.anchors).check(NOW)
