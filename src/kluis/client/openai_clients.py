"""OpenAI's clients over attested TLS: the package ``openai`` is unmodified, and its transport is Kluis's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final, Self

import httpx
import openai

from kluis.appraisal import AttestationResult, Policy
from kluis.errors import KluisError, UsageError
from kluis.host import attested

_NO_KEY: Final = "none"
_NOWHERE: Final = "wss://nowhere.invalid"
"""What a copy gets for the address of WebSockets, which it would otherwise read."""


class _Refused(BaseException):
    """Carries an error of Kluis's past the package, which would try again, and hide its text."""

    def __init__(self, error: KluisError) -> None:
        super().__init__(error.message)
        self.error = error


class _Transport(httpx.BaseTransport):
    """An attested transport that remembers the last verdict."""

    def __init__(self, below: httpx.BaseTransport) -> None:
        self._below = below
        self.result: AttestationResult | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._below.handle_request(request)
        except KluisError as error:
            raise _Refused(error) from error
        self.result = attested.attestation(response)
        return response

    def close(self) -> None:
        self._below.close()


class _AsyncTransport(httpx.AsyncBaseTransport):
    """Likewise."""

    def __init__(self, below: httpx.AsyncBaseTransport) -> None:
        self._below = below
        self.result: AttestationResult | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._below.handle_async_request(request)
        except KluisError as error:
            raise _Refused(error) from error
        self.result = attested.attestation(response)
        return response

    async def aclose(self) -> None:
        await self._below.aclose()


class _Client(httpx.Client):
    """A client of this module's."""

    def __init__(self, policy: Policy | Path | str, **trusted: bytes | None) -> None:
        self.attested = _Transport(attested.transport(policy, **trusted))
        super().__init__(transport=self.attested)


class _AsyncClient(httpx.AsyncClient):
    """Likewise."""

    def __init__(self, policy: Policy | Path | str, **trusted: bytes | None) -> None:
        self.attested = _AsyncTransport(attested.async_transport(policy, **trusted))
        super().__init__(transport=self.attested)


class _Attested:
    """What both clients share: HTTP over attested TLS, and no WebSockets, which the package opens past it."""

    _http: ClassVar[type[_Client | _AsyncClient]]

    def __init__(
        self,
        *,
        base_url: str | httpx.URL | None = None,
        policy: Policy | Path | str | None = None,
        root: bytes | None = None,
        collateral: bytes | None = None,
        api_key: Any = _NO_KEY,
        **options: Any,
    ) -> None:
        # It may be httpx's, which the package accepts next to httpx2's.
        http_client: Any = options.pop("http_client", None)
        if http_client is None:
            http_client = self._http(_require(policy), root=root, collateral=collateral)
        _check_websockets(options.pop("websocket_base_url", None))
        if not isinstance(http_client, self._http):  # a copy by with_options gets the same one
            raise _foreign_client()
        self._attested = http_client.attested
        package: Any = super()
        package.__init__(
            base_url=_check_url(base_url), api_key=api_key, **{"http_client": http_client, **options}
        )

    def copy(self, **options: Any) -> Self:
        """The same client with other options, as the package's."""
        _check_websockets(options.pop("websocket_base_url", None))
        package: Any = super()
        copied: Self = package.copy(**options, websocket_base_url=_NOWHERE)
        return copied

    with_options = copy

    @property
    def attestation(self) -> AttestationResult:
        """The verdict on the enclave that sent the last response.

        Raises:
            UsageError: there was no response yet.
        """
        return _verdict(self._attested.result)

    @property
    def websocket_base_url(self) -> Any:
        """Refused: each WebSocket of the package reads this address before it connects.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "websocket: want a request over HTTP, got a WebSocket, which would not verify the enclave",
            hint="kluis connect forwards WebSockets to a verified enclave",
        )

    @websocket_base_url.setter
    def websocket_base_url(self, value: object) -> None:
        """The package sets it."""


class OpenAI(_Attested, openai.OpenAI):
    """``openai.OpenAI`` that sends nothing before the enclave at the other end meets a policy.

    WebSockets, as of ``realtime.connect``, are refused: the package opens them without this transport.

    Args:
        base_url: ``https://host[:port]/v1`` of the enclave.
        policy: of purpose ``channel``, with a nonce; or its TOML file.
        root: PEM of the only root to trust; None as for :func:`kluis.host.attested.transport`.
        collateral: JSON in the format of ``dcap-qvl``; None uses this machine's platform.
        api_key: for a server that requires one.
        **options: of ``openai.OpenAI``.

    Raises:
        UsageError: the policy is for another purpose, or ``http_client`` is given.

    In addition to the package's own errors, a request raises the KluisError of a failed rule. It is not tried
    again.
    """

    _http = _Client

    def request(self, *arguments: Any, **options: Any) -> Any:
        """Send a request, as ``openai.OpenAI`` does.

        Raises:
            KluisError: the enclave does not meet the policy; nothing was sent.
        """
        try:
            return super().request(*arguments, **options)
        except _Refused as refused:
            raise refused.error from None


class AsyncOpenAI(_Attested, openai.AsyncOpenAI):
    """``openai.AsyncOpenAI``; the arguments and errors are those of :class:`OpenAI`."""

    _http = _AsyncClient

    async def request(self, *arguments: Any, **options: Any) -> Any:
        """Send a request, as ``openai.AsyncOpenAI`` does.

        Raises:
            KluisError: the enclave does not meet the policy; nothing was sent.
        """
        try:
            return await super().request(*arguments, **options)
        except _Refused as refused:
            raise refused.error from None


def _require(policy: Policy | Path | str | None) -> Policy | Path | str:
    if policy is None:
        raise UsageError(
            "policy: want the requirements on the enclave, got none",
            hint="kluis policy init -o policy.toml --purpose channel --image FILE",
        )
    return policy


def _check_url(base_url: str | httpx.URL | None) -> str:
    """The address; without one, the package would use OpenAI's, or a variable's."""
    if base_url is None or not str(base_url).startswith("https://"):
        raise UsageError(f"base_url: want https://host[:port]/v1 of the enclave, got {str(base_url)[:80]!a}")
    return str(base_url)


def _check_websockets(base: object) -> None:
    if base not in (None, _NOWHERE):
        raise UsageError("websocket_base_url: want none, because this client opens no WebSocket, got one")


def _foreign_client() -> UsageError:
    return UsageError(
        "http_client: want none, because this client verifies its enclave, got one",
        hint="openai.OpenAI(http_client=httpx.Client(transport=kluis.host.attested.transport(policy)))",
    )


def _verdict(result: AttestationResult | None) -> AttestationResult:
    if result is None:
        raise UsageError("attestation: want a response, got none yet", hint="call models.list() first")
    return result
