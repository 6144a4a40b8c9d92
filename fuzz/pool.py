"""Good inputs to begin from: forged ones, and recorded ones in ``$KLUIS_VECTORS``, with their parts."""

from __future__ import annotations

import functools
import json
import os
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kluis.errors import KluisError
from kluis.formats import x509
from kluis.formats.sgx.collateral import split_signed
from kluis.testing.vectors.case import MAPPINGS, case_of
from kluis.testing.vectors.record import Record, find, read

ROOT = Path(__file__).resolve().parents[1]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
MOST_BYTES = 64 << 10
MOST_SEEDS = 200


def seeds(target: Any) -> list[bytes]:
    """Inputs that the target reads, smallest first; a few that it does not where it reads none."""
    good = []
    for data in sorted(pool(), key=len):
        with suppress(Exception):
            if (target.begins or target.run)(data):
                good.append(data)
        if len(good) == MOST_SEEDS:
            break
    return good or sorted(pool(), key=len)[:20]


@functools.cache
def pool() -> frozenset[bytes]:
    """Every input, and the parts of each."""
    found: set[bytes] = {b"", b"{}", b"\x30\x00", b"\xa0"}
    for data in (*_forged(), *_recorded()):
        found.update(part for part in _parts(data) if len(part) <= MOST_BYTES)
    return frozenset(found)


@functools.cache
def records() -> tuple[Record, ...]:
    """The records, if there are any."""
    try:
        return tuple(map(read, find(VECTORS)))
    except KluisError:
        return ()


def endorsements(types: tuple[type, ...]) -> Any:
    """Some endorsements of one of these types, or None."""
    for record in records():
        if record.tee in MAPPINGS:
            with suppress(KluisError, KeyError):
                given = case_of(record.tee, record.files).endorsements
                if isinstance(given, types or (type(None),)):
                    return given
    return None


def _recorded() -> Iterator[bytes]:
    for record in records():
        yield from record.files.values()
        if record.tee in MAPPINGS:
            with suppress(KluisError, KeyError):
                case = case_of(record.tee, record.files)
                yield case.evidence
                writer = getattr(case.endorsements, "to_json", None)
                if writer is not None:
                    yield writer()


def _forged() -> Iterator[bytes]:
    _our_tests()
    from tests.evidence.forge import Forge

    forge = Forge()
    yield from (forge.quote(), forge.runtime, forge.launch, forge.authority.root_pem())
    good = forge.collateral()
    yield good.to_json()
    for name in good.__slots__:
        if (part := getattr(good, name)) is not None:
            yield part
    for member, document, signature in (
        ("tcbInfo", good.tcb_info, good.tcb_info_signature),
        ("enclaveIdentity", good.qe_identity, good.qe_identity_signature),
    ):
        yield b'{"%s":%s,"signature":"%s"}' % (member.encode(), document, signature.hex().encode())
    yield json.dumps({"keys": [1, "a", None, True, {"b": []}]}, separators=(",", ":")).encode()


def _our_tests() -> None:
    """Let ``tests`` be ours: an installed package of that name would come first."""
    if "tests" not in sys.modules:
        package = types.ModuleType("tests")
        package.__path__ = [str(ROOT / "tests")]
        sys.modules["tests"] = package


def _parts(data: bytes) -> Iterator[bytes]:
    if not data:
        return
    yield data
    ders: list[bytes] = []
    with suppress(KluisError):
        ders = list(x509.split_pem(data, "seed", most=16))
        yield from ders
    if data[:1] == b"\x30":
        ders.append(data)
    for der in ders:
        with suppress(KluisError):
            certificate = x509.parse(der, "seed")
            yield from (certificate.spki, *certificate.extensions.values())
    for member in ("tcbInfo", "enclaveIdentity"):
        with suppress(KluisError):
            yield split_signed(data, member)[0]
