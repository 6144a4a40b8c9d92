"""Assertions that are shown again: what MSAL does, and no more."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from kluis.serve.issuer import replay
from tests.serve.issuer.asserting import Client, issuer_of, told
from tests.services.web.issuer import NOW, FixedClock

CLIENT = Client("workload")
AGAIN = "invalid_client: client assertion jti: want one that was not shown before, got 'one' again"


def test_once_for_each_request(tmp_path: Path) -> None:
    """The same assertion for another resource is let pass, as MSAL shows it; for the same, it is a replay."""
    issuer, assertion = issuer_of(tmp_path, CLIENT), CLIENT.assertion(jti="one")
    for resource in ("a", "b"):
        assert told(issuer, assertion, scope=f"https://{resource}.example/.default") == "token"
    for resource in ("a", "b"):
        assert told(issuer, assertion, scope=f"https://{resource}.example/.default") == AGAIN


def test_one_request_in_other_words(tmp_path: Path) -> None:
    """Additional scopes of MSAL for Go and Java do not make it another request."""
    issuer, assertion = issuer_of(tmp_path, CLIENT), CLIENT.assertion(jti="one")
    scopes = ("https://a.example/.default", "https://a.example/.default openid profile offline_access")
    assert [told(issuer, assertion, scope=one) for one in scopes] == ["token", AGAIN]


def test_so_many_requests_and_no_more(tmp_path: Path) -> None:
    """The ninth resource by one assertion is refused."""
    issuer, assertion = issuer_of(tmp_path, CLIENT), CLIENT.assertion(jti="one")
    said = [told(issuer, assertion, scope=f"https://{number}.example/.default") for number in range(9)]
    assert said == ["token"] * 8 + [AGAIN]


def test_another_assertion_of_the_same_name(tmp_path: Path) -> None:
    """A jti is one assertion's; another client may have the same."""
    other = Client("reader")
    issuer = issuer_of(tmp_path, CLIENT, other)
    assert told(issuer, CLIENT.assertion(jti="one")) == "token"
    assert told(issuer, CLIENT.assertion(jti="one", more=1), scope="https://b.example/.default") == AGAIN
    assert told(issuer, other.assertion(jti="one"), "reader") == "token"


def test_what_has_expired_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for so many that have not expired; more are refused, and later there is room again."""
    monkeypatch.setattr(replay, "MOST_OF_CLIENT", 2)
    clock, other = FixedClock(), Client("reader")
    issuer = issuer_of(tmp_path, CLIENT, other, clock=clock)
    said = [told(issuer, CLIENT.assertion(jti=name)) for name in ("one", "two", "three")]
    assert said == [
        "token",
        "token",
        "temporarily_unavailable: client workload: want at most 2 assertions that have not expired",
    ]
    assert told(issuer, other.assertion(), "reader") == "token"
    clock.at = NOW + timedelta(seconds=650)
    assert told(issuer, CLIENT.assertion(jti="one")) == AGAIN
    clock.at = NOW + timedelta(seconds=661)
    at = int(clock.at.timestamp())
    assert told(issuer, CLIENT.assertion(jti="one")).startswith("invalid_client: AADSTS700024: ")
    assert told(issuer, CLIENT.assertion(jti="one", exp=at + 600)) == "token"
