"""Compile a loop."""

import numpy as np
from numba import njit

from kluis.enclave import Enclave


@njit
def total(values: np.ndarray) -> float:
    """Sum of squares."""
    found = 0.0
    for value in values:
        found += value * value
    return found


app = Enclave("numba")


@app.ecall
def check() -> str:
    """Compile a loop."""
    return f"{total(np.arange(1000.0)):.0f}"
