"""Embeddings of a batch, and decoding token by token: the same inside and outside."""

import time

import numpy as np
from inference import Chatter, Embedder

from kluis.enclave.models import Model

TEXTS = [
    f"Sentence {n} of a batch, of as many words as people write in one line of a letter" for n in range(32)
]
TOKENS = 128
TIMES = 5


class Workload:
    """Both models, without HTTP."""

    def __init__(self, model: Model) -> None:
        self._embedder = Embedder(model)
        self._chatter = Chatter(model)
        self.embed()
        self.decode()

    def embed(self) -> float:
        """The seconds of one batch of 32, as the mean of some."""
        start = time.perf_counter()
        for _ in range(TIMES):
            self._embedder.embed(TEXTS)
        return (time.perf_counter() - start) / TIMES

    def decode(self) -> float:
        """The seconds of one token, as the mean of an answer's."""
        past, ids = self._chatter.begin(), [self._chatter.roles["user"]]
        start = time.perf_counter()
        for _ in range(TOKENS):
            logits, past = self._chatter.step(ids, past)
            ids = [int(np.argmax(logits))]
        return (time.perf_counter() - start) / TOKENS
