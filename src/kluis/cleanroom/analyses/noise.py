"""Secret noise for published figures: the same question always gets the same noise.

The key is derived from every owner's data key. So no party, and no coalition without all owners, can compute
the noise and subtract it. A repeated run draws no new noise.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import field, replace
from statistics import NormalDist
from typing import Self

from kluis.cleanroom.agreement.agreement import Agreement
from kluis.cleanroom.agreement.documents import hash_of
from kluis.cleanroom.analyses.budget import models_of, scores_of
from kluis.frozen import frozen

_BITS = 53


@frozen
class Noise:
    """Noise under one key.

    Attributes:
        key: 32 bytes, secret.
        scores: number of scores that all models of the agreement publish, at least 1.
        models: its number of models, at least 1.
    """

    key: bytes = field(repr=False)
    scores: int
    models: int

    @classmethod
    def of(cls, agreement: Agreement, keys: Mapping[str, bytes]) -> Self:
        """Derive the noise of an agreement.

        Args:
            agreement: checked.
            keys: each data set's key, 32 bytes.

        The data sets' descriptions are included: if an owner seals changed data under an old key, the noise
        changes, so that the difference of two runs still contains noise.
        """
        material = b"".join(keys[each.id] for each in agreement.datasets)
        pinned = "|".join(("kluis-room-noise/1", agreement.room, *map(hash_of, agreement.datasets)))
        key = hmac.new(material, pinned.encode(), hashlib.sha256).digest()
        return cls(key, max(1, scores_of(agreement)), max(1, models_of(agreement)))

    def for_question(self, *parts: str) -> Self:
        """Noise for one question; the parts must include everything that its answer and its scale depend
        on.
        """
        named = (str(self.scores), str(self.models), *parts)
        text = "".join(f"{len(part)}:{part}" for part in named)
        return replace(self, key=hmac.new(self.key, text.encode(), hashlib.sha256).digest())

    def uniform(self, label: str) -> float:
        """A number strictly between 0 and 1."""
        drawn = hmac.new(self.key, label.encode(), hashlib.sha256).digest()
        return float(((int.from_bytes(drawn[:8]) >> (64 - _BITS)) + 0.5) / 2.0**_BITS)

    def normal(self, label: str) -> float:
        """A number from the normal distribution of mean 0 and deviation 1."""
        return NormalDist().inv_cdf(self.uniform(label))
