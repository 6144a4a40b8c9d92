"""A room's enclave in this process: ``runner``'s calls around a ``Session`` with genuine quotes."""

from __future__ import annotations

from kluis.cleanroom.agreement.agreement import SignedAgreement
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.agreement.exchange import Challenge, Release
from kluis.cleanroom.running.session import Session
from tests.cleanroom.platform import Attester


class InProcess:
    """What ``conduct`` calls."""

    def __init__(self, attester: Attester) -> None:
        self.attester = attester
        self.session: Session

    def begin(self, agreement: bytes) -> str:
        signed = decode(agreement, SignedAgreement, "signed agreement")
        self.session = Session(self.attester, self.attester.image_id, signed)
        return self.session.run_id

    def offer(self, challenge: bytes) -> bytes:
        return encode(self.session.offer(decode(challenge, Challenge, "challenge")))

    def accept(self, release: bytes) -> None:
        self.session.accept(decode(release, Release, "release"))

    def add_file(self, dataset: str, data: bytes) -> None:
        self.session.add_file(dataset, data)

    def run(self) -> tuple[dict[str, bytes], bytes]:
        results, receipt = self.session.run()
        return results, encode(receipt)
