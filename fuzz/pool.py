"""Good inputs to begin from: forged ones, and recorded ones in ``$KLUIS_VECTORS``, with their parts."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from kluis.appraisal.tokens import ear_claims
from kluis.errors import KluisError
from kluis.formats import x509
from kluis.formats.encoding import cbor, jcs
from kluis.formats.ietf import cmw
from kluis.formats.sgx.collateral import split_signed
from tests.corpus.case import MAPPINGS, case_of
from tests.corpus.record import Record, find, read

ROOT = Path(__file__).resolve().parents[1]
VECTORS = Path(os.environ.get("KLUIS_VECTORS", ROOT.parent / "shared" / "vectors"))
# Where fixed structures lie in those that hold them: quotes, HCL reports, SNP responses.
_PLACES = ((0, 48), (48, 432), (48, 632), (54, 702), (32, 1216), (32, 1056), (0, 1184), (1184, 4096))
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?")
MOST_BYTES = 64 << 10
MOST_SEEDS = 200


def seeds(target: Any) -> list[bytes]:
    """Inputs that the target reads, smallest first; a few that it does not where it reads none."""
    if target.starts is not None:
        return sorted({data for data in target.starts() if len(data) <= MOST_BYTES}, key=len)
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
                yield case.evidence or b""
                writer = getattr(case.endorsements, "to_json", None)
                if writer is not None:
                    yield writer()


def _forged() -> Iterator[bytes]:
    our_tests()
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
    made = tokens()
    yield from (made.JWT.encode(), made.CWT)
    for write, numbers in ((jcs.dumps, False), (cbor.dumps, True)):
        yield write(ear_claims.write(made.EAR, numbers=numbers))
    yield from _evidence()
    yield from _constants()
    yield json.dumps({"keys": [1, "a", None, True, {"b": []}]}, separators=(",", ":")).encode()


def _evidence() -> Iterator[bytes]:
    """One good piece of each kind."""
    from tests.evidence import samples

    for kind in samples.MAKERS:
        one = samples.sample(kind)
        yield one.data
        writer = getattr(one.collateral, "to_json", None)
        if writer is not None:
            yield writer()


def _constants() -> Iterator[bytes]:
    """The good inputs that tests begin from: bytes, text, and what writes itself as bytes."""
    paths = [path for room in ("formats", "appraisal") for path in (ROOT / "tests" / room).rglob("test_*.py")]
    for path in sorted(paths):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        with suppress(ImportError):
            for value in vars(importlib.import_module(name)).values():
                yield from _bytes_of(value)


def _bytes_of(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes | str):
        yield value if isinstance(value, bytes) else value.encode()
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, bytes):
                yield item
    elif not isinstance(value, type) and callable(getattr(value, "encode", None)):
        with suppress(KluisError, TypeError):
            if isinstance(written := value.encode(), bytes):
                yield written


def tokens() -> Any:
    """The tests' attestation results, and the keys that signed them."""
    our_tests()
    from tests.appraisal.tokens import test_signing

    return test_signing


def our_tests() -> None:
    """Let ``tests`` be ours: an installed package of that name would come first."""
    if "tests" not in sys.modules:
        package = types.ModuleType("tests")
        package.__path__ = [str(ROOT / "tests")]
        sys.modules["tests"] = package


def _parts(data: bytes) -> Iterator[bytes]:
    if not data:
        return
    yield data
    yield from (piece for start, end in _PLACES if len(piece := data[start:end]) == end - start)
    with suppress(KluisError):
        yield from (part.value for part in cmw.Collection.parse(data).parts.values())
    chains = _PEM.findall(data)
    if chains and chains[0] != data:
        yield b"".join(chains)
    ders: list[bytes] = []
    with suppress(KluisError):
        ders = list(x509.split_pem(b"".join(chains) or data, "seed", most=16))
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
