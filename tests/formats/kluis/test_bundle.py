"""One evidence bundle: what adds a field or a bound to it keeps its three, and its bytes on the wire."""

from __future__ import annotations

import msgspec

from kluis.cleanroom.agreement import exchange
from kluis.cleanroom.agreement.documents import encode
from kluis.enclave.attestation import Evidence
from kluis.enclave.store.keys.handover import KeyGift, KeyRequest
from kluis.formats.kluis.attested_tls import Answer
from kluis.formats.kluis.bundle import EvidenceBundle

BUNDLE = EvidenceBundle(b"quote", b"{}", b"[]")


def test_a_value_of_another_class_has_the_same_three() -> None:
    """Each class of evidence can be made from any other, and adds its own members."""
    for kind, more in (
        (EvidenceBundle, {}),
        (Evidence, {}),
        (KeyRequest, {}),
        (exchange.Evidence, {}),
        (KeyGift, {"sealed": b"key"}),
        (Answer, {"challenge": b"nonce"}),
    ):
        made = kind.of(BUNDLE, **more)
        assert msgspec.structs.asdict(made) == msgspec.structs.asdict(BUNDLE) | more


def test_the_bytes_of_each() -> None:
    """What an enclave and its host exchange is a map of these names in this order; a room's is canonical."""
    assert msgspec.json.encode(Evidence.of(BUNDLE)) == (
        b'{"quote":"cXVvdGU=","runtime_data":"e30=","launch_configuration":"W10="}'
    )
    assert msgspec.json.encode(KeyGift.of(BUNDLE, sealed=b"")) == (
        b'{"quote":"cXVvdGU=","runtime_data":"e30=","launch_configuration":"W10=","sealed":""}'
    )
    assert encode(exchange.Evidence.of(BUNDLE)) == (
        b'{"launch_configuration":"W10=","quote":"cXVvdGU=","runtime_data":"e30="}'
    )


def test_each_keeps_its_bounds() -> None:
    """What is read from others is bounded: 256 KiB a document of a handover, 64 KiB of a room."""
    for kind, most in ((KeyRequest, 256 << 10), (exchange.Evidence, 64 << 10)):
        for name in ("quote", "runtime_data", "launch_configuration"):
            for size in (most, most + 1):
                values = {"quote": b"", "runtime_data": b"", "launch_configuration": b"", name: bytes(size)}
                try:
                    msgspec.convert(values, kind)
                except msgspec.ValidationError:
                    assert size > most
                else:
                    assert size == most
