"""The enclave of a room: five ecalls around one ``Session``. An image's ``app.py`` creates it in one line.

The calling host is not trusted; ``session`` documents what each call checks. Documents cross as bytes in
canonical form, in which they are signed and hashed.
"""

from __future__ import annotations

import importlib
import threading

from kluis.cleanroom.agreement import keys
from kluis.cleanroom.agreement.agreement import SignedAgreement
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.agreement.exchange import RECEIPT, Challenge, Evidence, Release
from kluis.cleanroom.running.session import Session
from kluis.enclave import Enclave, attestation
from kluis.enclave.inside import inside
from kluis.errors import UsageError

_LATE = ("kluis.cleanroom.analyses.analysis",)


def room(name: str, *, product_id: int, svn: int) -> Enclave:
    """Create the enclave that runs a room.

    Args:
        name: shown to people.
        product_id: 0..65535.
        svn: 0..65535.
    """
    app = Enclave(name, product_id=product_id, svn=svn)
    running: list[Session] = []

    def session() -> Session:
        if not running:
            raise UsageError("room: want begin first", code="room_order")
        return running[0]

    @app.ecall
    def begin(agreement: bytes) -> str:
        """Start the one run of this enclave; returns its id, 64 hex digits."""
        if running:
            raise UsageError("room: an enclave makes one run; start another", code="room_order")
        image_id = inside("begin").launch.image_id.hex()
        running.append(Session(_Runtime(), image_id, decode(agreement, SignedAgreement, "signed agreement")))
        # The analysis modules are imported while owners verify.
        threading.Thread(target=importlib.import_module, args=_LATE, daemon=True).start()
        return running[0].run_id

    @app.ecall
    def offer(challenge: bytes) -> bytes:
        """Answer one owner's challenge."""
        return encode(session().offer(decode(challenge, Challenge, "challenge")))

    @app.ecall
    def accept(release: bytes) -> None:
        """Take one owner's keys."""
        session().accept(decode(release, Release, "release"))

    @app.ecall
    def add_file(dataset: str, data: bytes) -> None:
        """Take the next sealed file of a data set."""
        session().add_file(dataset, data)

    @app.ecall
    def run() -> tuple[dict[str, bytes], bytes]:
        """Run the analyses; returns sealed results by analysis, and the receipt."""
        results, receipt = session().run()
        return results, encode(receipt)

    return app


class _Runtime:
    """The attester, inside: the runtime sets the purposes."""

    def release_offer(self, nonce: bytes, payload: bytes) -> Evidence:
        return Evidence.of(attestation.release_offer(nonce, payload))

    def receipt_offer(self, nonce: bytes, payload: bytes) -> Evidence:
        return Evidence.of(attestation.receipt_offer(nonce, payload))

    def sign_receipt(self, statement: bytes) -> bytes:
        return attestation.sign_receipt(keys.statement(RECEIPT, statement))
