"""Release a sum with noise, through a function written in Python."""

import opendp.prelude as dp

from kluis.enclave import Enclave

dp.enable_features("contrib", "honest-but-curious")


app = Enclave("opendp")


@app.ecall
def check() -> str:
    """Release a sum with noise, through a function written in Python."""
    space = dp.vector_domain(dp.atom_domain(bounds=(0, 100))), dp.symmetric_distance()
    noisy = space >> dp.t.then_sum() >> dp.m.then_laplace(scale=10.0)
    own = dp.t.make_user_transformation(
        *space, dp.atom_domain(T=int), dp.absolute_distance(T=int), lambda rows: len(rows), lambda d: d
    )
    release = noisy([50] * 200)
    return f"{abs(release - 10_000) < 500} {noisy.map(1):.1f} {own([1, 2, 3])}"
