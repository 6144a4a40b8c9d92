"""Authorities' keys: fetched when they must be, believed for a while, never by the host's word unasked."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import AuthenticityError, KluisError, UnavailableError, UsageError
from kluis.formats.encoding import b64
from kluis.services import backoff
from kluis.services.keyvault.release.keyring import Keyring, describe
from kluis.services.keyvault.vault.authorities import Attested, ByImages, InsecureFetched, Pinned, canonical
from tests.services.keyvault.world import (
    AUTHORITY,
    CERTIFICATE,
    OTHER_KEY,
    PINNED,
    Host,
    certificate,
    jwks,
    public_jwk,
)
from tests.services.web.issuer import NOW

METADATA, CERTS = f"{AUTHORITY}/.well-known/openid-configuration", f"{AUTHORITY}/certs"


def ring(host: Host, authority: Any = None, **limits: int) -> Keyring:
    """The keys of one authority, fetched through a host."""
    given = {"life_seconds": 3600, "refetch_seconds": 30, **limits}
    return Keyring((authority or InsecureFetched(AUTHORITY),), host.fetch, lambda quote: None, **given)


def test_fetched_once() -> None:
    """Keys are fetched when they are first wanted, and not again while they are believed."""
    host = Host()
    keyring = ring(host)
    assert host.fetched == []
    for _ in range(5):
        assert keyring.key(AUTHORITY, "one", NOW).certificate == CERTIFICATE
    assert host.fetched == [METADATA, CERTS]


def test_an_unknown_name_is_asked_for_once_in_a_while() -> None:
    """Tokens of unknown keys make the host fetch, but not at every token."""
    host = Host()
    keyring = ring(host)
    for seconds in (0, 1, 15, 29):
        with pytest.raises(AuthenticityError, match="token kid: want a key of"):
            keyring.key(AUTHORITY, "new", NOW + timedelta(seconds=seconds))
    assert len(host.fetched) == 2
    host.documents[CERTS] = json.dumps(jwks(kid="new")).encode()
    assert keyring.key(AUTHORITY, "new", NOW + timedelta(seconds=30)).kid == "new"
    assert len(host.fetched) == 4
    assert keyring.key(AUTHORITY, "new", NOW + timedelta(seconds=31))


def test_keys_are_believed_for_a_while() -> None:
    """What the authority withdrew is believed no longer than its keys' life."""
    host = Host()
    keyring = ring(host, life_seconds=60)
    keyring.key(AUTHORITY, "one", NOW)
    host.documents[CERTS] = json.dumps(jwks(kid="new")).encode()
    keyring.key(AUTHORITY, "one", NOW + timedelta(seconds=59))
    with pytest.raises(AuthenticityError):
        keyring.key(AUTHORITY, "one", NOW + timedelta(seconds=60))


def test_keys_that_are_too_old_are_not_believed_for_want_of_newer() -> None:
    """A host that stops fetching does not keep a key alive that the authority may have withdrawn."""
    host = Host()
    keyring = ring(host, life_seconds=60)
    keyring.key(AUTHORITY, "one", NOW)
    host.documents = {}
    with pytest.raises(UnavailableError):
        keyring.key(AUTHORITY, "one", NOW + timedelta(seconds=60))
    with pytest.raises(UnavailableError):
        keyring.key(AUTHORITY, "one", NOW + timedelta(seconds=61))


def test_whoever_comes_while_keys_are_fetched_waits_for_them() -> None:
    """Of two tokens that come first, neither is refused for keys that are on their way."""
    host, asked, go = Host(), threading.Event(), threading.Event()
    fetch = host.fetch

    def slow(url: str) -> bytes:
        asked.set()
        assert go.wait(300)
        return fetch(url)

    host.fetch = slow  # type: ignore[method-assign]
    keyring = ring(host)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(keyring.key, AUTHORITY, "one", NOW)
        assert asked.wait(300)
        second = threads.submit(keyring.key, AUTHORITY, "one", NOW)
        assert not wait((second,), 0.1).done
        go.set()
        assert {one.result(300).kid for one in (first, second)} == {"one"}
    assert host.fetched == [METADATA, CERTS]


def test_an_issuer_that_is_no_authority() -> None:
    """Nothing is fetched for an issuer that is not an authority."""
    host = Host()
    with pytest.raises(AuthenticityError) as refused:
        ring(host).key("https://evil.example", "one", NOW)
    assert refused.value.message == (
        "token iss: want one of this vault's authorities, got 'https://evil.example'"
    )
    assert host.fetched == []


def test_a_clock_that_goes_back() -> None:
    """After a clock is turned back, keys are fetched again, not trusted endlessly."""
    host = Host()
    keyring = ring(host)
    keyring.key(AUTHORITY, "one", NOW)
    keyring.key(AUTHORITY, "one", NOW - timedelta(days=1))
    assert len(host.fetched) == 4


@pytest.mark.parametrize(
    ("url", "document", "message"),
    [
        (METADATA, b"not found", "OpenID metadata: want JSON, got another"),
        (METADATA, b"[" * 100_000, "OpenID metadata: want JSON, got another"),
        (METADATA, b"{}", "OpenID metadata: want jwks_uri, got none"),
        (
            METADATA,
            b'{"jwks_uri":"http://attest.example/certs"}',
            "authority: want an https URL, got 'http://attest.example/certs'",
        ),
        (
            METADATA,
            b'{"jwks_uri":"file:///etc/passwd"}',
            "authority: want an https URL, got 'file:///etc/passwd'",
        ),
        (METADATA, b" " * 300_000, f"{METADATA}: is 300000 bytes, must be at most 262144"),
        (CERTS, b'{"keys":[]}', "JWKS: want 1 to 32 keys, got another"),
        (CERTS, json.dumps(jwks(x5c=None)).encode(), "JWK.x5c: want one, got none"),
        (CERTS, json.dumps(jwks(x5c=["AAAA"])).encode(), "JWK.x5c: want a certificate, got another"),
        (
            CERTS,
            json.dumps(jwks(x5c=["A" * 100_000])).encode(),
            "JWK.x5c: want at most 32768 bytes, got more",
        ),
        (CERTS, json.dumps(jwks(kid=None)).encode(), "JWK: want kid and kty, RSA or EC, got another"),
        (CERTS, json.dumps(jwks(kty="oct")).encode(), "JWK: want kid and kty, RSA or EC, got another"),
        (CERTS, json.dumps(jwks(kty="EC")).encode(), "JWK.kty: want its key's, got EC"),
        (CERTS, json.dumps(jwks(d="AA")).encode(), "JWK: want a public key, got a private one"),
        (
            CERTS,
            json.dumps(jwks(**public_jwk(OTHER_KEY))).encode(),
            "JWK: want one key in it and its x5c, got two or none",
        ),
        (
            CERTS,
            json.dumps({"keys": jwks()["keys"] * 2}).encode(),
            "JWKS: want each kid once, got 'one' twice",
        ),
        (CERTS, json.dumps({"keys": jwks()["keys"] * 33}).encode(), "JWKS: want 1 to 32 keys, got another"),
    ],
)
def test_documents_that_are_none(
    url: str, document: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority with malformed documents is not trusted, for a while."""
    host = Host()
    host.documents[url] = document
    keyring = ring(host)
    with pytest.raises(UnavailableError) as refused:
        keyring.key(AUTHORITY, "one", NOW)
    assert refused.value.message == f"keys of {AUTHORITY}: {message}"
    host.documents = Host().documents
    with pytest.raises(UnavailableError) as again:
        keyring.key(AUTHORITY, "one", NOW + timedelta(days=1))
    assert again.value.message.startswith(f"{refused.value.message} (so it was ")
    later = time.monotonic() + 1
    monkeypatch.setattr(backoff, "monotonic", lambda: later)
    assert keyring.key(AUTHORITY, "one", NOW + timedelta(seconds=2))


def test_nobody_waits_for_what_failed_before() -> None:
    """While one tries again after a failure, others hear of it at once; and get no key that is too old."""
    host = Host()
    keyring = ring(host, life_seconds=60)
    keyring.key(AUTHORITY, "one", NOW)
    host.documents = {}
    with pytest.raises(UnavailableError):
        keyring.key(AUTHORITY, "new", NOW + timedelta(seconds=31))
    (held,) = keyring._held.values()
    with held.lock:
        assert keyring.key(AUTHORITY, "one", NOW + timedelta(seconds=59))
        for kid, seconds in (("new", 40), ("one", 60)):
            with pytest.raises(UnavailableError, match="OpenID metadata: want JSON"):
                keyring.key(AUTHORITY, kid, NOW + timedelta(seconds=seconds))


def test_a_failure_leaves_what_is_known() -> None:
    """While a fetch for an unknown key fails, known keys hold."""
    host = Host()
    keyring = ring(host)
    keyring.key(AUTHORITY, "one", NOW)
    host.documents = {}
    with pytest.raises(UnavailableError):
        keyring.key(AUTHORITY, "new", NOW + timedelta(seconds=31))
    assert keyring.key(AUTHORITY, "one", NOW + timedelta(seconds=32))


def test_pinned_keys_are_never_fetched() -> None:
    """A pinned authority's keys are those of the configuration."""
    host = Host()
    keyring = ring(host, PINNED)
    assert keyring.key(AUTHORITY, "one", NOW)
    with pytest.raises(AuthenticityError):
        keyring.key(AUTHORITY, "two", NOW)
    assert host.fetched == []
    bare = {"keys": [public_jwk(OTHER_KEY, kid="n")]}
    assert ring(host, Pinned(AUTHORITY, json.dumps(bare))).key(AUTHORITY, "n", NOW).certificate is None


def test_an_attested_authority_without_evidence() -> None:
    """Whatever the host sends, a key without its enclave's evidence is not accepted for an attested
    authority.
    """
    host = Host()
    keyring = ring(host, attested())
    with pytest.raises(UnavailableError) as refused:
        keyring.key(AUTHORITY, "one", NOW)
    assert refused.value.message == (
        f"keys of {AUTHORITY}: no key of the authority is its enclave's own: vouched certificate: "
        "want extension 1.3.6.1.4.1.311.105.1, got none"
    )
    assert host.fetched == [CERTS]


def attested(**changes: Any) -> Attested:
    """An attested authority, of an image that nobody has."""
    given: dict[str, Any] = {
        "url": AUTHORITY,
        "roots": (ROOT,),
        "identity": ByImages(("ab" * 32,)),
        "levels": ("process",),
        "insecure_any_settings": True,
        **changes,
    }
    return Attested(**given)


def pem(der: bytes) -> str:
    """PEM of a certificate."""
    return f"-----BEGIN CERTIFICATE-----\n{b64.encode(der)}\n-----END CERTIFICATE-----\n"


ROOT = pem(certificate(OTHER_KEY))


@pytest.mark.parametrize(
    "changes",
    [
        {"roots": ()},
        {"roots": ("x",)},
        {"levels": ()},
        {"levels": ("perfect",)},
        {"identity": ByImages(())},
        {"identity": ByImages(("zz",))},
        {"identity": ByImages(("ab",))},
        {"url": "http://attest.example"},
        {"insecure_any_settings": False},
        {"settings": ("ab" * 32,)},
        {"insecure_any_settings": False, "settings": ("ab",)},
        {"insecure_any_settings": False, "settings": ("AB" * 32,)},
    ],
)
def test_authorities_that_could_never_be_believed(changes: dict[str, Any]) -> None:
    """A setting that cannot be meant is refused at the start."""
    with pytest.raises(KluisError):
        ring(Host(), attested(**changes))


def test_pinned_keys_that_are_none() -> None:
    """Pinned keys are read at the start."""
    with pytest.raises(UsageError) as refused:
        ring(Host(), Pinned(AUTHORITY, '{"keys":[]}'))
    assert refused.value.message == f"authority {AUTHORITY}: JWKS: want 1 to 32 keys, got another"


def test_the_set_in_one_form() -> None:
    """The set of authorities is written in one way, whatever its order; no URL comes twice."""
    other = InsecureFetched("https://b.example")
    assert canonical((PINNED, other)) == canonical((other, PINNED))
    with pytest.raises(UsageError, match="got two"):
        canonical((PINNED, InsecureFetched(f"{AUTHORITY}/")))
    with pytest.raises(UsageError):
        canonical((InsecureFetched("ftp://x"),))
    with pytest.raises(UsageError):
        canonical([InsecureFetched(f"https://a{at}.example") for at in range(33)])


def test_what_is_insecure_says_so() -> None:
    """An authority by the host's word is shown as insecure."""
    assert describe(InsecureFetched(AUTHORITY))["kind"] == "insecure_fetched"
    assert describe(PINNED)["kind"] == "pinned"
    assert describe(attested())["kind"] == "attested"


words = st.sampled_from([
    "keys", "kid", "kty", "x5c", "n", "e", "crv", "x", "y", "alg", "d", "RSA", "EC", "P-256", "one", "AQAB",
    b64.encode(CERTIFICATE), public_jwk(OTHER_KEY)["n"],
])  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | words | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=6),
    max_leaves=12,
)


@given(st.sampled_from([METADATA, CERTS]), values, st.booleans())
def test_whatever_a_host_hands_out(url: str, document: Any, of_enclave: bool) -> None:
    """Whatever documents come, there is a key or an error of ours."""
    host = Host()
    given = document if url == METADATA else {"keys": document}
    host.documents[url] = json.dumps(given).encode()
    try:
        ring(host, attested() if of_enclave else None).key(AUTHORITY, "one", NOW)
    except KluisError:
        return


def test_a_ring_of_both_kinds_of_keys() -> None:
    """Keys on curves come with their coordinates as well as in certificates."""
    key = ec.generate_private_key(ec.SECP384R1())
    numbers = key.public_key().public_numbers()
    x, y = (b64.encode_url(each.to_bytes(48, "big")) for each in (numbers.x, numbers.y))
    entry = {"kid": "c", "kty": "EC", "crv": "P-384", "x": x, "y": y}
    keyring = ring(Host(), Pinned(AUTHORITY, json.dumps({"keys": [entry]})))
    assert keyring.key(AUTHORITY, "c", NOW).algorithms == ("ES384",)
    for wrong in ({"crv": "P-256"}, {"crv": "P-999"}, {"y": x}, {"kty": "RSA"}, {"x": None}):
        with pytest.raises(UsageError):
            ring(Host(), Pinned(AUTHORITY, json.dumps({"keys": [{**entry, **wrong}]})))
