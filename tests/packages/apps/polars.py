"""Run a lazy query that joins, groups and sorts."""

import polars as pl

from kluis.enclave import Enclave

app = Enclave("polars")


@app.ecall
def check() -> str:
    """Run a lazy query that joins, groups and sorts."""
    visits = pl.LazyFrame({"person": [1, 1, 2, 3], "cost": [10.0, 20.0, 5.0, 7.5]})
    persons = pl.LazyFrame({"person": [1, 2, 3], "town": ["Delft", "Delft", "Gouda"]})
    costs = (
        visits.join(persons, on="person").group_by("town").agg(pl.col("cost").sum()).sort("town").collect()
    )
    return str(costs.rows())
