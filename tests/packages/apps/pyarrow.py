"""Write and read Parquet in memory, and compute on the columns."""

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kluis.enclave import Enclave

app = Enclave("pyarrow")


@app.ecall
def check() -> str:
    """Write and read Parquet in memory, and compute on the columns."""
    file = io.BytesIO()
    pq.write_table(
        pa.table({"n": pa.array(range(100_000)), "even": [n % 2 == 0 for n in range(100_000)]}), file
    )
    read = pq.read_table(io.BytesIO(file.getvalue()), filters=[("even", "=", True)])
    return str(pc.sum(read["n"]))
