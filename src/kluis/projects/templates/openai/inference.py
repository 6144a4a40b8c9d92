"""Compute embeddings and chats with onnxruntime, from the files of an open model.

Each folder of the model has model.onnx and tokenizer.json. In embeddings there is an encoder, and in chat a
decoder with a cache.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
from tokenizers import Tokenizer
from wire import BadRequest, ChatRequest

from kluis.enclave.models import Model

if TYPE_CHECKING:
    import onnxruntime

EMBEDDINGS, CHAT = "embeddings", "chat"
MAX_TOKENS = 512  # of a text to embed: MiniLM has as many positions
AT_ONCE = 2  # computations; others wait
ROLES = ("user", "assistant", "system")


class Engine:
    """Answers requests from an open model; the model may be closed afterwards."""

    def __init__(self, model: Model) -> None:
        self._embedder = Embedder(model)
        self._chatter = Chatter(model)
        self._places = anyio.CapacityLimiter(AT_ONCE)
        self.names = (EMBEDDINGS, CHAT)

    async def embed(self, name: str, texts: list[str]) -> tuple[np.ndarray, int]:
        """The texts' vectors, and the number of tokens."""
        _check_name(name, EMBEDDINGS)
        return await run(self._places, self._embedder.embed, texts)

    async def chat(self, name: str, request: ChatRequest) -> Reply:
        """Begin an answer: a long conversation takes a second to become tokens."""
        _check_name(name, CHAT)
        request.check()
        return await run(self._places, Reply, self._chatter, request, self._places)


class Embedder:
    """Texts to vectors of unit length."""

    def __init__(self, model: Model) -> None:
        self._session = model.session(f"{EMBEDDINGS}/model.onnx")
        self._tokenizer = tokenizer_of(model, EMBEDDINGS)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()  # 255 short texts would become as long as one long text

    def embed(self, texts: list[str]) -> tuple[np.ndarray, int]:
        """The texts' vectors, and the number of tokens."""
        encodings = self._tokenizer.encode_batch(texts)
        longest = max(len(each) for each in encodings)
        if longest > MAX_TOKENS:
            raise BadRequest(f"input: want texts of at most {MAX_TOKENS} tokens, got {longest}")
        ids, mask = np.zeros((2, len(encodings), longest), np.int64)
        for row, each in enumerate(encodings):
            ids[row, : len(each)] = each.ids
            mask[row, : len(each)] = 1
        vectors = self._session.run(None, {"ids": ids, "mask": mask})[0]
        return vectors, int(mask.sum())


class Chatter:
    """Continues conversations."""

    def __init__(self, model: Model) -> None:
        self._session: onnxruntime.InferenceSession = model.session(f"{CHAT}/model.onnx")
        self.tokenizer = tokenizer_of(model, CHAT)
        self.tokenizer.encode_special_tokens = True  # a client's text never becomes a role
        self.end = self._special("end")
        self.roles = {role: self._special(role) for role in ROLES}
        shapes = {each.name: each.shape for each in self._session.get_inputs()}
        self._cache = [each if isinstance(each, int) else 0 for each in shapes["past"]]
        positions = self._session.get_modelmeta().custom_metadata_map.get("positions", "0")
        self.context = int(positions)

    def _special(self, name: str) -> int:
        token = self.tokenizer.token_to_id(f"<|{name}|>")
        if token is None:
            raise ValueError(f"tokenizer: want the token <|{name}|>")
        return int(token)

    def prompt(self, request: ChatRequest) -> list[int]:
        """The conversation as tokens, ending with the assistant's turn."""
        ids: list[int] = []
        for message in request.messages:
            role = {"developer": "system"}.get(message.role, message.role)
            if role not in self.roles:
                raise BadRequest("messages: want the role user, assistant, system or developer")
            ids += [self.roles[role], *self.tokenizer.encode(message.text()).ids]
            ids += [self.end] if role == "assistant" else []
        ids.append(self.roles["assistant"])
        if len(ids) >= self.context:
            raise BadRequest(f"messages: want fewer than {self.context} tokens, got {len(ids)}")
        return ids

    def begin(self) -> np.ndarray:
        """An empty cache."""
        return np.zeros(self._cache, np.float32)

    def step(self, ids: list[int], past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next token's logits, and the longer cache."""
        logits, present = self._session.run(None, {"ids": np.array([ids], np.int64), "past": past})
        return logits[0], present


class Reply:
    """An answer that grows by one token at a time.

    Attributes:
        text: so far.
        finish_reason: stop or length; meaningful at the end.
    """

    def __init__(self, chatter: Chatter, request: ChatRequest, places: anyio.CapacityLimiter) -> None:
        self._places = places
        self._chatter = chatter
        self._prompt = chatter.prompt(request)
        room = chatter.context - len(self._prompt)
        self._most = min([room, *(each for each in request.limits() if each is not None)])
        self._stops = request.stops()
        self._held = max([len(each) - 1 for each in self._stops], default=0)
        self._temperature = 1.0 if request.temperature is None else request.temperature
        self._top_p = 1.0 if request.top_p is None else request.top_p
        seed = int.from_bytes(os.urandom(16), "big") if request.seed is None else request.seed
        self._random = np.random.default_rng(seed)
        self._count = 0
        self.text = ""
        self.finish_reason = "length"

    async def pieces(self) -> AsyncIterator[str]:
        """Generate: each item is the text that became certain with one token, and may be empty."""
        past, ids, made, sent = self._chatter.begin(), self._prompt, [], 0
        while self._count < self._most:
            logits, past = await run(self._places, self._chatter.step, ids, past)
            chosen = self._choose(logits)
            self._count += 1
            if chosen == self._chatter.end:
                self.finish_reason = "stop"
                break
            made.append(chosen)
            ids = [chosen]
            self.text = self._chatter.tokenizer.decode(made)
            if (at := self._stop_at()) is not None:
                self.text, self.finish_reason = self.text[:at], "stop"
                break
            # A stop text, or a character of several tokens, may have begun.
            sure = self.text.rstrip("\ufffd")
            sure = sure[: max(sent, len(sure) - self._held)]
            yield sure[sent:]
            sent = max(sent, len(sure))
        if rest := self.text[sent:]:
            yield rest

    def usage(self) -> dict[str, int]:
        """Numbers of tokens."""
        prompt = len(self._prompt)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._count,
            "total_tokens": prompt + self._count,
        }

    def _stop_at(self) -> int | None:
        places = [at for each in self._stops if (at := self.text.find(each)) >= 0]
        return min(places, default=None)

    def _choose(self, logits: np.ndarray) -> int:
        logits = logits.astype(np.float64)
        logits[list(self._chatter.roles.values())] = -np.inf
        if self._temperature == 0:
            return int(logits.argmax())
        scaled = (logits - logits.max()) / self._temperature
        likely = np.exp(scaled) / np.exp(scaled).sum()
        order = np.argsort(-likely)
        kept = order[: int(np.searchsorted(np.cumsum(likely[order]), self._top_p)) + 1]
        return int(self._random.choice(kept, p=likely[kept] / likely[kept].sum()))


def tokenizer_of(model: Model, name: str) -> Any:
    """The tokenizer in a folder of the model."""
    return Tokenizer.from_buffer(bytes(model.files[f"{name}/tokenizer.json"]))


def _check_name(name: str, want: str) -> None:
    if name != want:
        raise BadRequest(f"model: want {want} for this request; GET /v1/models lists all")


async def run(places: anyio.CapacityLimiter, function: Any, *arguments: Any) -> Any:
    """Compute in a thread, as soon as there is a place."""
    return await anyio.to_thread.run_sync(function, *arguments, limiter=places)
