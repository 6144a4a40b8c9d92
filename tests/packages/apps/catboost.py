"""Train boosted trees on categories."""

import numpy as np
from catboost import CatBoostClassifier

from kluis.enclave import Enclave

app = Enclave("catboost")


@app.ecall
def check() -> str:
    """Train boosted trees on categories."""
    random = np.random.default_rng(0)
    towns = random.choice(["Delft", "Gouda", "Breda"], size=600)
    ages = random.integers(20, 80, size=600)
    y = ((towns == "Delft") & (ages > 50)).astype(int)
    rows = [[town, int(age)] for town, age in zip(towns, ages, strict=True)]
    model = CatBoostClassifier(
        iterations=60, depth=4, thread_count=2, verbose=False, allow_writing_files=False, random_seed=0
    )
    model.fit(rows[:400], y[:400], cat_features=[0])
    return str((model.predict(rows[400:]) == y[400:]).mean() > 0.95)
