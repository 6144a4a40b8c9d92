"""Integrate, and solve an equation."""

import sympy as sp

from kluis.enclave import Enclave

app = Enclave("sympy")


@app.ecall
def check() -> str:
    """Integrate, and solve an equation."""
    x = sp.symbols("x")
    return f"{sp.integrate(x * sp.exp(-x), (x, 0, sp.oo))} {sp.solve(x**2 - 2 * x - 3, x)}"
