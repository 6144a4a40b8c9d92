"""Two enclaves on one platform know each other, and their host, who carries the messages, cannot lie.

kluis build examples/local_attestation/first -o first.kluis --key author.pem
kluis build examples/local_attestation/second -o second.kluis --key author.pem
python examples/local_attestation/host.py first.kluis second.kluis
"""

from __future__ import annotations

import sys

from kluis.errors import RemoteError
from kluis.host import EnclaveProxy, load


def main(first_path: str, second_path: str) -> None:
    """Introduce A to B; then change each part of the report in turn, and replay it."""
    with load(first_path) as first, load(second_path) as second:
        target, nonce = second.challenge()
        made = first.introduce(target, nonce)
        peer = second.meet(made, nonce)
        print(f"ok      B met {peer.measurement.hex()[:16]}, with the message: {peer.payload.decode()}")
        for what, offset in (("measurement", 64), ("signer", 128), ("report data", 320), ("MAC", 431)):
            target, nonce = second.challenge()
            made = first.introduce(target, nonce)
            refuse(second, flipped(made, offset), nonce, f"a changed bit in the {what}")
        refuse(second, made, b"another nonce", "a replay")
        target, nonce = second.challenge()
        elsewhere = bytes(32) + target[32:]
        refuse(second, first.introduce(elsewhere, nonce), nonce, "a report for another enclave")


def flipped(made: object, offset: int) -> dict[str, bytes]:
    """The same report with one bit changed."""
    report = bytearray(made.report)  # type: ignore[attr-defined]
    report[offset] ^= 1
    return {"report": bytes(report), "runtime_data": made.runtime_data}  # type: ignore[attr-defined]


def refuse(second: EnclaveProxy, made: object, nonce: bytes, what: str) -> None:
    """See B refuse."""
    try:
        second.meet(made, nonce)
    except RemoteError as error:
        print(f"refused {what}: {error}")
    else:
        sys.exit(f"B took {what}")


if __name__ == "__main__":
    main(*sys.argv[1:])
