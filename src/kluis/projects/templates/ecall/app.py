"""The code inside the enclave. A host can call functions that are marked ``@app.ecall``, and no others."""

from __future__ import annotations

from kluis.enclave import Enclave

app = Enclave("project_name", product_id=1, svn=1)

LEAST = 5


@app.ecall(raises=(ValueError,))
def mean_age(ages: list[int]) -> float:
    """Return the mean of at least five ages."""
    if len(ages) < LEAST:
        raise ValueError(f"want at least {LEAST} people, got {len(ages)}")
    return sum(ages) / len(ages)
