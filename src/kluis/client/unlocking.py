"""Unlock a model: send its key to an enclave that meets a policy, over attested TLS."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx

from kluis.appraisal import Policy
from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError, UsageError, foreign
from kluis.formats.encoding import b64
from kluis.frozen import frozen
from kluis.host import attested

DOOR: Final = "/model/key"
_SECONDS: Final = 120.0


@frozen
class Unlocked:
    """A model that an enclave has opened.

    Attributes:
        model_id: hex.
        sealed_key: the key, sealed to the enclave's image and platform: it unlocks the model after a restart.
    """

    model_id: str
    sealed_key: bytes = dataclasses.field(repr=False)


def unlock_model(
    url: str,
    key: bytes | None = None,
    *,
    policy: Policy | Path | str,
    sealed_key: bytes | None = None,
    root: bytes | None = None,
    collateral: bytes | None = None,
) -> Unlocked:
    """Send a model's key to an enclave, once the enclave was verified.

    Args:
        url: ``https://host[:port]``.
        key: 32 bytes; or else:
        sealed_key: from an earlier call, of the same image and platform.
        policy: of purpose ``channel``, with a nonce; or its TOML file.
        root: PEM of the only root to trust; None as for :func:`kluis.host.attested.transport`.
        collateral: JSON in the format of ``dcap-qvl``; None uses this machine's platform.

    Raises:
        UsageError: no address of an enclave, or not one of ``key`` and ``sealed_key``.
        AuthenticityError: the enclave's model is sealed under another key; or the enclave is not authentic.
        PolicyError: the enclave does not meet the policy. Nothing was sent.
        UnavailableError: nothing answers there.
        FormatError: the application has no sealed model, or one that does not open: it is cut, or onnxruntime
            refuses it.
    """
    if not url.startswith("https://"):
        raise UsageError(f"unlock: want https://host[:port], got {url[:80]!a}")
    if (key is None) is (sealed_key is None):
        raise UsageError("unlock: want a key or a sealed key, one of the two")
    body = {"k": b64.encode_url(key)} if key is not None else {"sealed": b64.encode_url(sealed_key or b"")}
    value = _put(url, attested.transport(policy, root=root, collateral=collateral), body)
    try:
        return Unlocked(
            foreign(str(value["model_id"]), 64), b64.decode_url(str(value["sealed"]), "sealed key")
        )
    except (KeyError, TypeError):
        raise FormatError(f"{url}: want an unlocked model, got another answer") from None


def _put(url: str, transport: httpx.BaseTransport, body: dict[str, str]) -> Any:
    try:
        with httpx.Client(transport=transport, timeout=_SECONDS) as client:
            answer = client.put(url.rstrip("/") + DOOR, json=body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        hint = "is the enclave being served there?"
        raise UnavailableError(f"{url}: {foreign(str(error))}", hint=hint) from None
    try:
        value = answer.json()
        why = foreign(str(value["error"]["message"])) if answer.status_code != HTTPStatus.OK else ""
    except (ValueError, KeyError, TypeError):
        raise FormatError(
            f"{url}: want an enclave with a sealed model, got status {answer.status_code}",
            hint=f"the application answers PUT {DOOR}, as the template openai does",
        ) from None
    if answer.status_code == HTTPStatus.OK:
        return value
    raise _KINDS.get(answer.status_code, UnavailableError)(f"{url}: {why}")


_KINDS: Final[dict[int, type[KluisError]]] = {
    HTTPStatus.FORBIDDEN: AuthenticityError,
    HTTPStatus.BAD_REQUEST: FormatError,
}
