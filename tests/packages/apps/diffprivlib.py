"""Train a classifier and take a mean, both with noise."""

import numpy as np
from diffprivlib import tools
from diffprivlib.models import GaussianNB

from kluis.enclave import Enclave

app = Enclave("diffprivlib")


@app.ecall
def check() -> str:
    """Train a classifier and take a mean, both with noise."""
    random = np.random.default_rng(0)
    x = np.vstack([random.normal(-2, 0.5, (300, 2)), random.normal(2, 0.5, (300, 2))])
    y = np.repeat([0, 1], 300)
    model = GaussianNB(epsilon=5.0, bounds=(-5, 5), random_state=0).fit(x, y)
    mean = tools.mean(x[:, 0], epsilon=5.0, bounds=(-5, 5))
    return f"{model.score(x, y) > 0.95} {abs(mean) < 0.5}"
