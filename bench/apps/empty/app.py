"""The smallest application that can be called."""

from kluis.enclave import Enclave

app = Enclave("bench-empty", product_id=101, svn=1)


@app.ecall
def nothing() -> None:
    """Do nothing, to measure the cost of a call."""
