"""Requests and answers in the form of OpenAI's API. A member that this server does not support is refused."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from inference import Reply

MAX_TEXTS = 256
T = TypeVar("T")


class BadRequest(Exception):
    """A request that cannot be answered; its text goes to the client."""


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/embeddings."""

    model: str
    input: str | list[Any]
    encoding_format: str = "float"
    dimensions: int | None = None
    user: str | None = None

    def texts(self) -> list[str]:
        """The texts to embed."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not 1 <= len(texts) <= MAX_TEXTS:
            raise BadRequest(f"input: want 1 to {MAX_TEXTS} texts, got {len(texts)}")
        if not all(isinstance(each, str) and each for each in texts):
            raise BadRequest(
                "input: want texts that are not empty; tokens of another model mean nothing here"
            )
        if self.encoding_format not in ("float", "base64"):
            raise BadRequest("encoding_format: want float or base64")
        if self.dimensions is not None:
            raise BadRequest("dimensions: this model has one size")
        return texts


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a message."""

    type: str
    text: str = ""


class Message(msgspec.Struct):
    """A message of a conversation."""

    role: str
    content: str | list[Part] | None = None

    def text(self) -> str:
        """Its text.

        Raises:
            BadRequest: it has parts that are not text.
        """
        if isinstance(self.content, str):
            return self.content
        if any(part.type != "text" for part in self.content or ()):
            raise BadRequest("messages: want text, got another kind of content")
        return "".join(part.text for part in self.content or ())


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What a stream has in addition."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/chat/completions."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    logprobs: bool | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises:
            BadRequest: names the field.
        """
        if not 1 <= len(self.messages) <= 1000:
            raise BadRequest("messages: want 1 to 1000")
        for what, bad in (
            ("n: want 1", self.n not in (None, 1)),
            ("logprobs: are not returned", bool(self.logprobs)),
            ("tools: are not supported", bool(self.tools or self.functions)),
            ("response_format: want text", (self.response_format or {}).get("type", "text") != "text"),
            ("max_tokens: want at least 1", any(each is not None and each < 1 for each in self.limits())),
            ("temperature: want 0 to 2", not 0 <= (self.temperature or 0) <= 2),
            ("top_p: want more than 0, at most 1", not 0 < (1 if self.top_p is None else self.top_p) <= 1),
            ("stop: want at most 4 texts of 1 to 64 characters", not _are_stops(self.stops())),
            ("seed: want 0 to 2^63-1", not 0 <= (self.seed or 0) < 1 << 63),
        ):
            if bad:
                raise BadRequest(what)

    def limits(self) -> tuple[int | None, int | None]:
        """Both names of the largest number of tokens."""
        return self.max_tokens, self.max_completion_tokens

    def stops(self) -> list[str]:
        """The texts that end an answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def _are_stops(stops: list[str]) -> bool:
    return len(stops) <= 4 and all(1 <= len(each) <= 64 for each in stops)


def parse(body: bytes, kind: type[T]) -> T:
    """Read a request.

    Raises:
        BadRequest: names the member, and not its value.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"request: {error}") from None


def embeddings_answer(request: EmbeddingsRequest, vectors: np.ndarray, tokens: int) -> dict[str, Any]:
    """The answer of /v1/embeddings."""
    coded: list[Any] = (
        [base64.b64encode(each.astype("<f4").tobytes()).decode() for each in vectors]
        if request.encoding_format == "base64"
        else vectors.tolist()
    )
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(coded)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def chat_answer(request: ChatRequest, reply: Reply) -> dict[str, Any]:
    """The answer of /v1/chat/completions."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    return {**_head(request, "chat.completion"), "choices": [choice], "usage": reply.usage()}


async def chat_events(request: ChatRequest, reply: Reply) -> AsyncIterator[bytes]:
    """The same as server-sent events."""
    head = _head(request, "chat.completion.chunk")
    wants_usage = request.stream_options is not None and request.stream_options.include_usage

    def event(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**head, "choices": [choice], **({"usage": None} if wants_usage else {})})

    yield event({"role": "assistant", "content": ""})
    async for piece in reply.pieces():
        if piece:
            yield event({"content": piece})
    yield event({}, reply.finish_reason)
    if wants_usage:
        yield _event({**head, "choices": [], "usage": reply.usage()})
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _head(request: ChatRequest, kind: str) -> dict[str, Any]:
    created = int(time.time())  # the host's clock
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": created, "model": request.model}
