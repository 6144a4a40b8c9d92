"""How the model's key comes in: from its owner, from a key service, or sealed by an earlier run."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kluis.enclave import ExpectedVault, VaultEvidence, open_released, release_key_offer, seal, unseal
from kluis.enclave.models import Model, open_model
from kluis.errors import UsageError

VAULT = Path(__file__).with_name(
    "vault.json"
)  # written by kluis vault meet; without it no key service is accepted
KEY_NAME = "model-key"  # in the vault
PURPOSE = b"project_name model key"

Engine = TypeVar("Engine")
T = TypeVar("T")


class Locked(Exception):
    """The model has no key yet."""


class Door(Generic[Engine]):
    """Opens the model once, with the right key.

    Args:
        sealed: the sealed model, in the image.
        start: makes the engine from the open model.
    """

    def __init__(self, sealed: Path, start: Callable[[Model], Engine]) -> None:
        self._sealed = sealed
        self._start = start
        self._engine: Engine | None = None
        self._model_id = ""
        self._lock = threading.Lock()

    def engine(self) -> Engine:
        """What answers requests.

        Raises:
            Locked: there is no key yet.
        """
        if self._engine is None:
            raise Locked
        return self._engine

    def open(self, key: bytes) -> str:
        """Open the model; its id. Another key is refused, also when the model is open."""
        with self._lock, open_model(self._sealed, key) as model:
            if self._engine is None:
                self._engine = self._start(model)
            return model.model_id.hex()


class Key(msgspec.Struct, forbid_unknown_fields=True):
    """PUT /model/key: the key, or the key as :func:`kluis.enclave.seal` returned it; base64url."""

    k: str = ""
    sealed: str = ""


class Release(msgspec.Struct, forbid_unknown_fields=True):
    """PUT /model/release: a key service's release, and the evidence of its vault, base64."""

    release: str
    certificate: bytes = b""  # base64 in JSON
    collateral: bytes = b""


def routes(door: Door[Engine]) -> list[Route]:
    """The paths for keys. Clients are not authenticated: only the right key opens the model."""

    async def put_key(request: Request) -> Response:
        body = _read(await request.body(), Key)
        if bool(body.k) is bool(body.sealed):
            raise UsageError("model key: want k or sealed, one of the two")
        key = _decode(body.k) if body.k else unseal(_decode(body.sealed), associated=PURPOSE)
        return await unlock(key)

    async def offer(request: Request) -> Response:
        made = await anyio.to_thread.run_sync(release_key_offer)
        parts = {
            "quote": made.quote,
            "runtime_data": made.runtime_data,
            "launch_configuration": made.launch_configuration,
        }
        return JSONResponse({name: base64.b64encode(part).decode() for name, part in parts.items()})

    async def put_release(request: Request) -> Response:
        release = _read(await request.body(), Release)
        if not VAULT.exists():
            raise UsageError("key service: this image names none", hint="add vault.json, and build it again")
        vault = ExpectedVault.parse(VAULT.read_bytes())
        brought = VaultEvidence(release.certificate, release.collateral)
        now = datetime.now(UTC)  # an enclave has no clock but its host's
        released = open_released(release.release, vault=vault, brought=brought, key=KEY_NAME, now=now)
        return await unlock(released.material)

    async def unlock(key: bytes) -> Response:
        model_id = await anyio.to_thread.run_sync(door.open, key)
        sealed = seal(key, associated=PURPOSE)
        return JSONResponse(
            {"model_id": model_id, "sealed": base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()}
        )

    return [
        Route("/model/key", put_key, methods=["PUT"]),
        Route("/model/offer", offer),
        Route("/model/release", put_release, methods=["PUT"]),
    ]


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # its text might quote the key
        raise UsageError(f"model key: want a {kind.__name__.lower()} as JSON, got another") from None


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise UsageError("model key: want base64url, got another") from None
