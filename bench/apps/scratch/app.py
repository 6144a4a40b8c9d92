"""Write files and read them back, in encrypted scratch."""

import workload

from kluis.enclave import Enclave

app = Enclave("bench-scratch", product_id=104, svn=1)


@app.ecall
def write_and_read(total: int, piece: int) -> list[float]:
    """Seconds to write ``total`` bytes in pieces to ``/scratch``, and to read them back."""
    return workload.write_and_read("/scratch", total, piece)
