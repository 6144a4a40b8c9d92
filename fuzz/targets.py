"""What is fuzzed: every function that reads bytes from others, found by its signature, and the verifiers.

A target takes bytes. Only errors of ours may leave it; what parses must be written back as the same
bytes where there is a writer.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import kluis.appraisal
import kluis.evidence
import kluis.formats
from kluis.errors import InternalError, KluisError, UsageError
from kluis.formats.encoding.layout import Struct

NOW: Final = datetime(2025, 6, 1, tzinfo=UTC)
PACKAGES: Final = (kluis.formats, kluis.evidence, kluis.appraisal)
NAMES: Final = (
    *("parse", "parse_value", "loads", "split", "from_json", "from_pem", "from_thim", "decode"),
    *("roles_of", "crl_der", "open_armor", "unwrap", "sniff", "kind_of", "message", "peel", "of_extension"),
)
BYTES: Final = (bytes, bytes | memoryview)
# What a caller says beside the bytes.
SAID: Final[dict[str, Any]] = {"what": "input", "member": "tcbInfo"}
# They take one thing in several forms, and write it in one.
LOOSE: Final = frozenset({
    "formats.tpm.signature.parse_either",
    "formats.ccf.receipt.Receipt.parse",
    *(f"formats.ccf.shares.{name}.parse" for name in ("RecoveryShares", "PastSecret")),
    "formats.ccf.signature.ServiceSignature.parse_value",
})  # fmt: skip
# A relying party writes these for itself, and an owner orders them.
OWN: Final = frozenset({
    *(f"appraisal.policy.toml_reader.{name}" for name in ("loads", "loads_machine")),
    *(f"services.provisioning.{name}" for name in ("Recover", "Certify", "Refuse", "Revoke", "Collateral")),
})  # fmt: skip
# Readers of bytes that their caller has cut to a fixed size: their callers are targets.
INNER: Final = frozenset({"formats.encoding.guid.decode"})


@dataclass(frozen=True, slots=True)
class Target:
    """A function to fuzz.

    Attributes:
        name: its module and name, without ``kluis.``.
        read: it, with all but the bytes given.
        begins: whether an input is worth beginning from; by default, what it reads is.
        starts: inputs to begin from, instead of the pool's.
    """

    name: str
    read: Callable[[bytes], Any]
    begins: Callable[[bytes], bool] | None = None
    starts: Callable[[], Iterable[bytes]] | None = None

    def run(self, data: bytes) -> bool:
        """Feed it once; tells whether it read the bytes.

        Raises:
            Finding: they were written back as others.
            Exception: whatever else escapes is a finding too.
        """
        try:
            found = self.read(data)
        except KluisError as error:
            # Nobody's bytes are a fault of ours, or of the caller, but where they are the caller's own; what
            # a service tells its clients is a kind of its own.
            if isinstance(error, InternalError) or (type(error) is UsageError and self.name not in OWN):
                raise
            return False
        written = _written(found)
        if written is not None and written != data and self.name not in LOOSE:
            raise Finding(f"{self.name}: what it read is written as other bytes")
        return True


class Finding(AssertionError):
    """A promise that an input broke."""


def targets() -> dict[str, Target]:
    """Every target, by name."""
    found = {one.name: one for module in _modules() for one in _of_module(module)}
    every = (_verifiers, _machines, _drivers, _results, _ledger, _streams, _services)
    found |= {one.name: one for made in every for one in made()}
    return dict(sorted(found.items()))


def _modules() -> Iterator[Any]:
    yield importlib.import_module("kluis.collateral.bundle")
    for package in PACKAGES:
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(info.name)


def _of_module(module: Any) -> Iterator[Target]:
    short = module.__name__.removeprefix("kluis.")
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) and name.startswith(NAMES):
            yield from _target(f"{short}.{name}", value)
        elif inspect.isclass(value) and (not issubclass(value, Struct) or hasattr(value, "_table")):
            for method in NAMES:
                made = inspect.getattr_static(value, method, None)
                if isinstance(made, classmethod):
                    yield from _target(f"{short}.{name}.{method}", getattr(value, method))


def _target(name: str, function: Callable[..., Any]) -> Iterator[Target]:
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    if name in INNER or not parameters or parameters[0].annotation not in BYTES:
        return
    rest = [one for one in parameters[1:] if one.default is inspect.Parameter.empty]
    if all(one.name in SAID for one in rest):
        said = {one.name: SAID[one.name] for one in rest}
        yield Target(name, lambda data: function(data, **said))


def _verifiers() -> Iterator[Target]:
    from fuzz.pool import endorsements
    from kluis.evidence import TrustAnchors
    from kluis.evidence.context import Context
    from kluis.evidence.registry import kinds

    anchors = TrustAnchors.shipped()
    for kind in kinds():
        given = endorsements(kind.endorsements)

        def read(data: bytes, given: Any = given, kind: Any = kind) -> None:
            kind.verify(data, context=Context(anchors), collateral=given, now=NOW)

        yield Target(f"verify.{kind.name.lower().replace(' ', '_')}", read, kind.matches)


def _machines() -> Iterator[Target]:
    """What a platform in a machine sends with its collateral, under the root of the machine's processor."""
    from fuzz.pool import our_tests

    our_tests()
    from kluis.evidence import endorsements
    from kluis.evidence.context import Context
    from tests.evidence.forge import NOW as WHEN
    from tests.evidence.machine import MachineForge

    forge = MachineForge()

    def read(data: bytes) -> None:
        endorsements.verify(endorsements.read(data), context=Context(forge.anchors), now=WHEN)

    good = [
        forge.endorsement(),
        forge.endorsement(forge.configuration(missing=("a",), only=bytes(32), release="1")),
    ]
    yield Target("endorsements.verify", read, starts=lambda: good)


def _drivers() -> Iterator[Target]:
    """What a driver reads that no format has: answers of a metadata service, and of a quoting service."""
    from kluis.tee.drivers import imds, tdx

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    quoted = bytes.fromhex("01000000010000001a000000000000000000000002000000") + b"qq"
    yield Target("tee.drivers.imds", imds.parse_answer, starts=lambda: (answer, chunked))
    yield Target("tee.drivers.tdx", tdx.parse_answer, starts=lambda: (quoted,))


def _results() -> Iterator[Target]:
    """Attestation results, as a relying party reads them: signed, and what is under the signature."""
    from fuzz.pool import tokens
    from kluis.appraisal.tokens import ear_claims, signing
    from kluis.formats.encoding import cbor, jcs

    made = tokens()
    now, jwt_key, cwt_key = made.NOW, made.P256.public_key(), made.P384.public_key()
    yield Target("result.jwt", lambda data: signing.verify_jwt(data, jwt_key, now=now))
    yield Target("result.cwt", lambda data: signing.verify_cwt(data, cwt_key, now=now))
    yield Target("result.ear_json", lambda data: ear_claims.read(jcs.loads(data, "EAR"), numbers=False))
    yield Target("result.ear_cbor", lambda data: ear_claims.read(cbor.loads(data, "EAR"), numbers=True))


def _ledger() -> Iterator[Target]:
    """A ledger's file as its auditor reads it, receipts as their verifiers do, and claims."""
    from fuzz import ledgers

    yield from (Target(name, read, starts=starts) for name, read, starts in ledgers.readers())


def _streams() -> Iterator[Target]:
    """What crosses into a machine and out of it."""
    from fuzz import streams

    yield from (Target(name, read, starts=starts) for name, read, starts in streams.readers())


def _services() -> Iterator[Target]:
    """What clients of the services, and members of a ledger, send."""
    from fuzz import governance, ledger_node, services
    from fuzz.pool import our_tests

    our_tests()
    for readers in (services.readers, governance.readers, ledger_node.readers):
        yield from (Target(name, read, starts=starts) for name, read, starts in readers())


def _written(found: Any) -> bytes | None:
    writer = getattr(found, "encode", None)
    if writer is None or isinstance(found, str):
        return None
    written = writer()
    return written if isinstance(written, bytes) else None
