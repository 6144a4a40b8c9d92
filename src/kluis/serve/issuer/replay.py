"""Detect replayed assertions: an assertion is valid once for each request.

MSAL uses one assertion, with one ``jti``, for every resource that it requests within ten minutes. So three
things are refused: the same assertion for the same request, another assertion with its ``jti``, and more
requests than a client needs. Spec: RFC 7523, "JWT Format and Processing Requirements", 7.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Final

from kluis.serve.issuer.assertion import LEEWAY_SECONDS, Assertion
from kluis.serve.issuer.refusals import refusal, show

MOST_REQUESTS: Final = 8
MOST_OF_CLIENT: Final = 1000


@dataclasses.dataclass(slots=True)
class _Seen:
    digest: bytes
    end: float
    requests: set[bytes]


class Shown:
    """The assertions seen, until they expire; only in memory."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, _Seen]] = {}

    def admit(self, client: str, assertion: Assertion, request: bytes, end: float, now: datetime) -> None:
        """Record a valid assertion.

        Args:
            client: that used it.
            assertion: with a ``jti``.
            request: digest of the request.
            end: time of its expiry.
            now: aware.

        Raises:
            Refusal: it is a replay, or the memory limit is reached.
        """
        seen, jti = self._seen.setdefault(client, {}), assertion.claims["jti"]
        for old in [name for name, one in seen.items() if one.end < now.timestamp() - LEEWAY_SECONDS]:
            del seen[old]
        one = seen.get(jti)
        if one is None:
            if len(seen) >= MOST_OF_CLIENT:
                raise refusal(
                    "temporarily_unavailable",
                    f"client {client}: want at most {MOST_OF_CLIENT} assertions that have not expired",
                    status=503,
                )
            seen[jti] = _Seen(assertion.digest, end, {request})
            return
        if one.digest != assertion.digest or request in one.requests or len(one.requests) >= MOST_REQUESTS:
            raise refusal(
                "invalid_client",
                f"client assertion jti: want one that was not shown before, got {show(jti)} again",
            )
        one.requests.add(request)
