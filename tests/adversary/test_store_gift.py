"""A host that makes an enclave's own evidence into the gift of a store's key, which the host chose."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kluis.enclave.store import ocalls
from kluis.enclave.store.keys import handover
from kluis.enclave.store.keys.handover import KeyGift
from kluis.errors import RemoteError
from kluis.formats.kluis.runtime_data import RuntimeData, okp_public
from kluis.serve.store import Database, keeping
from kluis.testing.plugin import Launch, enclave
from tests.launching import rehearsal_platform

__all__ = ["enclave", "rehearsal_platform"]

KEEPER = Path(__file__).parents[1] / "enclave" / "store" / "keeper" / "app.py"
TALKS = '''

from kluis import enclave as inside


@app.ecall
def evidence_over(payload: bytes, nonce: bytes) -> inside.Evidence:
    """Evidence for whoever asks, as many applications give it."""
    return inside.quote(payload, nonce=nonce)
'''


def test_an_applications_evidence_gives_no_key(enclave: Launch, tmp_path: Path) -> None:
    """Its host chooses all that it quotes, and is nobody who has the store's key."""
    application = tmp_path / "app.py"
    application.write_text(KEEPER.read_text() + TALKS)
    with Database(f"sqlite:///{tmp_path / 'store.db'}") as database:
        joiner = enclave(application, ocalls=ocalls.serving(keeping.records(database, "keeper")))
        challenge, chosen = bytes(32), bytes(range(32))
        request = joiner.store_key_ask(challenge)
        asked = RuntimeData.parse(request.runtime_data)
        nonce = asked.payload.removeprefix(handover.LABEL)
        secret = msgspec.msgpack.encode([chosen, 0, bytes(32)])
        sealed = handover._seal(okp_public(asked.keys[0], "X25519"), challenge + nonce, secret)
        said = joiner.evidence_over(handover._payload(challenge, nonce, sealed), nonce)
        with pytest.raises(RemoteError, match="purpose: want "):
            joiner.store_key_take(KeyGift.of(said, sealed=sealed))
