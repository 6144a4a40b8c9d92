"""Integrate, minimise and transform."""

import numpy as np
from scipy import fft, integrate, optimize, sparse
from scipy.sparse.linalg import spsolve

from kluis.enclave import Enclave

app = Enclave("scipy")


@app.ecall
def check() -> str:
    """Integrate, minimise and transform."""
    area, _ = integrate.quad(np.sin, 0, np.pi)
    least = optimize.minimize(lambda p: (p[0] - 1) ** 2 + (p[1] + 2) ** 2, [0.0, 0.0]).x
    peak = int(np.argmax(np.abs(fft.rfft(np.sin(2 * np.pi * 5 * np.arange(100) / 100)))))
    solved = spsolve(sparse.csc_matrix([[2.0, 0.0], [0.0, 4.0]]), np.array([2.0, 2.0]))
    return f"{area:.6f} {least[0]:.3f} {least[1]:.3f} {peak} {solved[0]:.2f} {solved[1]:.2f}"
