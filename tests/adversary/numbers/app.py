"""An enclave that computes with every library that has its own threads and allocator."""

from kluis.enclave import Enclave

app = Enclave("numbers", product_id=67, svn=1)


@app.ecall
def compute() -> list[str]:
    """numpy, polars, DuckDB and OpenMP threads, all at once; what each of them found."""
    import duckdb
    import numpy as np
    import polars as pl
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(1)
    square = rng.random((700, 700))
    frame = pl.DataFrame({"group": rng.integers(0, 50, 500_000), "value": rng.random(500_000)})
    summed = frame.group_by("group").agg(pl.col("value").sum())
    counted = duckdb.sql("select count(*) from range(3000000) t(i) where i % 7 = 0").fetchall()
    model = HistGradientBoostingClassifier(max_iter=20).fit(square[:, :8], square[:, 9] > 0.5)
    return [f"{(square @ square).shape[0]}", f"{summed.height}", f"{counted[0][0]}", f"{model.n_iter_}"]
