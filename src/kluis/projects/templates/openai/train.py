"""Train a small transformer on the Python reference that every Python carries, and export it.

Its answers are in the style of the reference: it shows the whole path, and is no assistant. The text is
`pydoc_data.topics`, under the PSF license.
"""

from __future__ import annotations

import time
from pathlib import Path
from pydoc_data import topics
from typing import Any

import export
import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY = 3, 4, 128, 256, 1024
BATCH, RATE = 8, 2e-3
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]

Weights = dict[str, Any]


def corpus() -> list[str]:
    """One conversation for each topic: its title is the question, and its text the answer."""
    chats = []
    for name, text in topics.topics.items():
        title = text.strip().split("\n", 1)[0] or name
        chats.append(f"<|user|>{title}<|assistant|>{text.strip()}<|end|>")
    return chats


def make_tokenizer(chats: list[str]) -> Tokenizer:
    """A byte-level BPE of the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(chats, trainer)
    return tokenizer


def initial(vocabulary: int) -> Weights:
    """Random weights."""
    random = np.random.default_rng(7)

    def normal(*shape: int) -> Any:
        return jnp.asarray(random.normal(0, 0.02, shape), jnp.float32)

    weights: Weights = {"tokens": normal(vocabulary, WIDTH), "positions": normal(CONTEXT, WIDTH)}
    for layer in range(LAYERS):
        weights |= {
            f"{layer}.norm1": jnp.ones(WIDTH),
            f"{layer}.norm2": jnp.ones(WIDTH),
            f"{layer}.qkv": normal(WIDTH, 3 * WIDTH),
            f"{layer}.out": normal(WIDTH, WIDTH),
            f"{layer}.up": normal(WIDTH, 4 * WIDTH),
            f"{layer}.down": normal(4 * WIDTH, WIDTH),
        }
    return weights | {"norm": jnp.ones(WIDTH)}


def norm(x: Any, gain: Any) -> Any:
    """Layer normalization, without a bias."""
    centred = x - x.mean(-1, keepdims=True)
    return gain * centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + export.EPSILON)


def logits(weights: Weights, ids: Any) -> Any:
    """The next token's logits at each position: (batch, length) to (batch, length, vocabulary)."""
    batch, length = ids.shape
    x = weights["tokens"][ids] + weights["positions"][:length]
    mask = jnp.where(jnp.tril(jnp.ones((length, length))) > 0, 0.0, export.HIDDEN)
    for layer in range(LAYERS):
        qkv = norm(x, weights[f"{layer}.norm1"]) @ weights[f"{layer}.qkv"]
        heads = qkv.reshape(batch, length, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
        scores = heads[0] @ heads[1].swapaxes(-1, -2) / (WIDTH // HEADS) ** 0.5 + mask
        mixed = (jax.nn.softmax(scores) @ heads[2]).transpose(0, 2, 1, 3).reshape(batch, length, WIDTH)
        x = x + mixed @ weights[f"{layer}.out"]
        inner = jax.nn.relu(norm(x, weights[f"{layer}.norm2"]) @ weights[f"{layer}.up"])
        x = x + inner @ weights[f"{layer}.down"]
    return norm(x, weights["norm"]) @ weights["tokens"].T


def loss(weights: Weights, ids: Any) -> Any:
    """The mean negative log likelihood of each next token, in nats."""
    likely = jax.nn.log_softmax(logits(weights, ids[:, :-1]))
    return -jnp.take_along_axis(likely, ids[:, 1:, None], -1).mean()


@jax.jit
def step(weights: Weights, first: Weights, second: Weights, ids: Any, count: Any) -> Any:
    """One step of Adam."""
    value, slope = jax.value_and_grad(loss)(weights, ids)
    rate = RATE * jnp.minimum(1.0, count / 50)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
    second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, second, slope)

    def step(w: Any, m: Any, v: Any) -> Any:
        return w - rate * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.99**count)) + 1e-8)

    return jax.tree.map(step, weights, first, second), first, second, value


def train(stream: np.ndarray, vocabulary: int, seconds: float, steps: int) -> tuple[Weights, float]:
    """Train for some seconds or steps, whichever ends first; the weights, and the last mean loss."""
    weights = initial(vocabulary)
    first = second = jax.tree.map(jnp.zeros_like, weights)
    random, recent, end = np.random.default_rng(8), [], time.monotonic() + seconds
    for count in range(1, steps + 1):
        starts = random.integers(0, len(stream) - CONTEXT - 1, BATCH)
        ids = np.stack([stream[start : start + CONTEXT + 1] for start in starts])
        weights, first, second, value = step(weights, first, second, ids, float(count))
        recent = [*recent[-99:], float(value)]
        if time.monotonic() > end:
            break
    return weights, sum(recent) / len(recent)


def write_chat(folder: Path, seconds: float = 60, steps: int = 1 << 30) -> str:
    """Train, and write model.onnx, model.onnx.data and tokenizer.json; a line about it."""
    folder.mkdir(parents=True, exist_ok=True)
    chats = corpus()
    tokenizer = make_tokenizer(chats)
    stream = np.concatenate([np.asarray(each.ids, np.int32) for each in tokenizer.encode_batch(chats)])
    weights, value = train(stream, tokenizer.get_vocab_size(), seconds, steps)
    plain = {name: np.asarray(each) for name, each in weights.items()}
    export.write(export.decoder(plain, LAYERS, HEADS), folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return f"trained: {len(stream)} tokens of text, loss {value:.2f}, written to {folder}"
