"""Compile a gradient, and descend along it."""

import jax
import jax.numpy as jnp

from kluis.enclave import Enclave

app = Enclave("jax")


@app.ecall
def check() -> str:
    """Compile a gradient, and descend along it."""

    @jax.jit
    def loss(w: jax.Array) -> jax.Array:
        return jnp.sum((w - jnp.array([1.0, -2.0])) ** 2)

    slope = jax.jit(jax.grad(loss))
    w = jnp.zeros(2)
    for _ in range(60):
        w = w - 0.1 * slope(w)
    return f"{float(w[0]):.3f} {float(w[1]):.3f}"
