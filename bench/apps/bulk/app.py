"""A large argument, and nothing done with it."""

from kluis.enclave import Enclave

app = Enclave("bench-bulk", max_message_bytes=(16 << 20) + 64)


@app.ecall
def size(data: bytes) -> int:
    """Count the bytes."""
    return len(data)
