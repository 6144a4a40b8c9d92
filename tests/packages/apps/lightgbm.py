"""Train boosted trees with an objective written in Python."""

import lightgbm as lgb
import numpy as np

from kluis.enclave import Enclave

app = Enclave("lightgbm")


@app.ecall
def check() -> str:
    """Train boosted trees with an objective written in Python."""
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 4))
    y = (x[:, 0] + x[:, 1] > 0).astype(float)

    def objective(scores: np.ndarray, data: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
        p = 1 / (1 + np.exp(-scores))
        return p - data.get_label(), p * (1 - p)

    settings = {"objective": objective, "num_threads": 2, "verbosity": -1}
    model = lgb.train(settings, lgb.Dataset(x[:400], y[:400]), 40)
    return str(((model.predict(x[400:]) > 0) == (y[400:] > 0)).mean() > 0.9)
