"""What one origin may answer, and how much of our time and memory it may take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kluis.collateral.transport import Limits, Origin
from kluis.errors import FormatError, KluisError, UnavailableError, UsageError
from tests.collateral.service import Reply, Service

LIMITS = Limits(size_bytes=1000, step_seconds=120.0, total_seconds=120.0, wait_seconds=2.0)
HASTY = Limits(size_bytes=1000, step_seconds=0.4, total_seconds=0.8)


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def origin(service: Service, slept: list[float]) -> Iterator[Origin]:
    with Origin(service.url, trust=service.trust, limits=LIMITS, sleep=slept.append) as made:
        yield made


def refused(origin: Origin, want: type[KluisError] = UnavailableError) -> KluisError:
    with pytest.raises(want) as caught:
        origin.get("/x", {}, "document", hint="do this")
    return caught.value


def test_bytes_come_as_they_are(service: Service, origin: Origin) -> None:
    """A body has the exact bytes that were sent, and the query the requested parameters, in order."""
    service.put("/x", Reply(body=b'{"a": 1}\n\0', headers=(("X-Chain", "a%0Ab"),)))
    answer = origin.get("/x", {"fmspc": "00906ea10000", "update": "early"}, "document")
    assert (answer.body, answer.headers["x-chain"]) == (b'{"a": 1}\n\0', "a%0Ab")
    assert service.asked == ["/x?fmspc=00906ea10000&update=early"]


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (Reply(404), "collateral_missing", "document: {} has none (404)"),
        (
            Reply(410),
            "collateral_retired",
            "document: {} has retired that evaluation data number (410)",
        ),
        (Reply(429), "service_busy", "document: {} is busy (429)"),
        (Reply(503), "service_busy", "document: {} is busy (503)"),
        (
            Reply(429, headers=(("Retry-After", "3600"),)),
            "service_busy",
            "document: {} is busy (429); it requests a wait of 3600 s",
        ),
        (Reply(400), "service_refused", "document: {} answers 400, want 200"),
        (Reply(500), "service_refused", "document: {} answers 500, want 200"),
        (Reply(204), "service_refused", "document: {} answers 204, want 200"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else "",
)
def test_every_status_has_its_error(
    service: Service, origin: Origin, reply: Reply, code: str, said: str
) -> None:
    """A status other than 200 is an error with a code, never an empty document."""
    service.put("/x", reply)
    error = refused(origin)
    assert (error.code, error.message) == (code, said.format(service.url))
    if reply.status == 404:
        assert error.hint == "do this"


@pytest.mark.parametrize("status", [429, 503])
def test_a_short_wait_is_waited(service: Service, origin: Origin, slept: list[float], status: int) -> None:
    """A request to a busy service is repeated after the time that it names, within our limit."""
    service.put("/x", Reply(status, headers=(("Retry-After", "1"),)), Reply(body=b"yes"))
    assert origin.get("/x", {}, "document").body == b"yes"
    assert slept == [1.0]


def test_a_date_to_wait_until(service: Service, origin: Origin, slept: list[float]) -> None:
    """A past date gives the minimum wait: a busy service is not queried at once."""
    service.put(
        "/x", Reply(503, headers=(("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),)), Reply(body=b"yes")
    )
    assert origin.get("/x", {}, "document").body == b"yes"
    assert slept == [1.0]


@pytest.mark.parametrize("said", ["0", "1", "-1", "1e9", "soon", "99999999999999", "\u00b2"])
def test_waiting_ends(service: Service, origin: Origin, slept: list[float], said: str) -> None:
    """A permanently busy service is given up, whatever wait it names."""
    service.put("/x", Reply(429, headers=(("Retry-After", said),)))
    assert refused(origin).code == "service_busy"
    assert sum(slept) <= LIMITS.wait_seconds
    assert len(service.asked) <= 3


def test_too_large(service: Service, origin: Origin) -> None:
    """A body past the limit is refused, however long it goes on."""
    service.put("/x", Reply(body=bytes(1_000_000)))
    error = refused(origin, FormatError)
    assert (error.code, error.message) == ("too_large", "document: is more than 1000 bytes")


def test_compressed(service: Service, origin: Origin) -> None:
    """An unrequested content encoding is refused: the size after inflation has no limit."""
    service.put("/x", Reply(body=b"x", headers=(("Content-Encoding", "gzip"),)))
    assert refused(origin, FormatError).message == "document: want no content encoding, got 'gzip'"


@pytest.mark.parametrize(
    "reply",
    [Reply(body=bytes(900), drip=0.1), Reply(drip_headers=0.1), Reply(body=b"xx", drip=90.0)],
    ids=["body drips", "headers drip", "silence"],
)
def test_too_slow(service: Service, reply: Reply) -> None:
    """A service that sends a byte now and then is cut off when the time is up, not when it ends."""
    service.put("/x", reply)
    with Origin(service.url, trust=service.trust, limits=HASTY) as origin:
        error = refused(origin)
    assert (error.code, error.message) == (
        "service_slow",
        f"document: {service.url} gave no whole answer in 0.8 s",
    )
    assert service.whole == []


def test_a_redirect_on_the_same_host(service: Service, origin: Origin) -> None:
    """A redirect within the origin is followed, a few times."""
    service.put("/x", Reply(302, headers=(("Location", "/y"),)))
    service.put("/y", Reply(body=b"there"))
    assert origin.get("/x", {}, "document").body == b"there"
    service.put("/y", Reply(302, headers=(("Location", "/x"),)))
    error = refused(origin)
    assert error.message == f"document: {service.url} redirects more than 2 times"


@pytest.mark.parametrize(
    "target", ["https://example.org/y", "http://127.0.0.1/y", "https://127.0.0.1:1/y", "//example.org/y"]
)
def test_a_redirect_elsewhere(service: Service, origin: Origin, target: str) -> None:
    """A redirect to another host, port or scheme is refused, and not followed."""
    service.put("/x", Reply(301, headers=(("Location", target),)))
    error = refused(origin)
    assert error.code == "service_refused"
    assert error.message.startswith(f"document: {service.url} redirects to another host, ")


def test_a_host_of_another_authority(service: Service) -> None:
    """A host whose TLS certificate is of another authority gets no request."""
    with Origin(service.url, limits=LIMITS) as other, pytest.raises(UnavailableError) as caught:
        other.get("/x", {}, "document")
    assert caught.value.code == "service_unreachable"
    assert service.asked == []


def test_a_host_of_another_name(service: Service) -> None:
    """A host whose TLS certificate names another host gets no request."""
    with (
        Origin(service.url.replace("127.0.0.1", "localhost"), trust=service.trust, limits=LIMITS) as other,
        pytest.raises(UnavailableError) as caught,
    ):
        other.get("/x", {}, "document")
    assert caught.value.code == "service_unreachable"


def test_nobody_there() -> None:
    """A port without a listener is reported as such."""
    with Origin("https://127.0.0.1:1", limits=LIMITS) as nobody, pytest.raises(UnavailableError) as caught:
        nobody.get("/x", {}, "document")
    assert caught.value.code == "service_unreachable"
    assert caught.value.hint == "check the network; --offline uses what is held"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "https://",
        "https://user:secret@example.org",
        "https://example.org/path",
        "https://example.org?x",
        "https://example.org#x",
        "example.org",
        "file:///etc/passwd",
        "https://exa mple.org",
        "https://example.org:123456",
    ],
)
def test_only_an_https_origin(url: str) -> None:
    """Nothing but an https origin is a service."""
    with pytest.raises(UsageError):
        Origin(url)


def test_the_environment_is_not_asked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names sees none of it."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    service.put("/x", Reply(body=b"yes"))
    with Origin(service.url, trust=service.trust, limits=LIMITS) as made:
        assert made.get("/x", {}, "document").body == b"yes"
