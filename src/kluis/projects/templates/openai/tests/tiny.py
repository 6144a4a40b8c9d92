"""Write a model with random weights, of the same form as the real one, in a moment."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).parents[1]))

import export

WIDTH, HEADS, LAYERS, CONTEXT = 16, 2, 2, 256
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def write(folder: Path) -> None:
    """Write the folders embeddings and chat."""
    random = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(0, 0.5, shape).astype(np.float32)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=SPECIAL, initial_alphabet=alphabet))
    vocabulary = tokenizer.get_vocab_size()
    for name in ("embeddings", "chat"):
        (folder / name).mkdir(parents=True)
        tokenizer.save(str(folder / name / "tokenizer.json"))

    weights = {
        "tokens": normal(vocabulary, WIDTH),
        "positions": normal(CONTEXT, WIDTH),
        "norm": np.ones(WIDTH),
    }
    for layer in range(LAYERS):
        weights |= {f"{layer}.norm1": np.ones(WIDTH), f"{layer}.norm2": np.ones(WIDTH)}
        shapes = {"qkv": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH), "up": (WIDTH, 64), "down": (64, WIDTH)}
        weights |= {f"{layer}.{part}": normal(*shape) for part, shape in shapes.items()}
    export.write(export.decoder(weights, LAYERS, HEADS), folder / "chat")

    settings = {
        "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": 1, "layer_norm_eps": 1e-12
    }  # fmt: skip
    bert = {
        "embeddings.word_embeddings.weight": normal(vocabulary, WIDTH),
        "embeddings.position_embeddings.weight": normal(512, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(2, WIDTH),
    }
    for name, rows, columns in (
        ("attention.self.query", WIDTH, WIDTH),
        ("attention.self.key", WIDTH, WIDTH),
        ("attention.self.value", WIDTH, WIDTH),
        ("attention.output.dense", WIDTH, WIDTH),
        ("intermediate.dense", 64, WIDTH),
        ("output.dense", WIDTH, 64),
    ):
        bert[f"encoder.layer.0.{name}.weight"] = normal(rows, columns)
        bert[f"encoder.layer.0.{name}.bias"] = normal(rows)
    for name in ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"):
        bert[f"{name}.LayerNorm.weight"], bert[f"{name}.LayerNorm.bias"] = normal(WIDTH), normal(WIDTH)
    export.write(export.encoder(bert, settings), folder / "embeddings")
