"""The host's side of the object ``ccf`` (``globals.js``): each operation that a script can call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kluis.errors import FormatError
from kluis.formats.encoding import jcs
from kluis.ledger.governance.scripts import crypto, jwt
from kluis.ledger.governance.scripts.access import Access, Phase, check
from kluis.ledger.governance.scripts.effects import Effects
from kluis.ledger.js import HostFault, Value
from kluis.ledger.store import Transaction

MAX_TABLE: Final = 1024
# The processors whose TCB has these parts, by the first six digits of their CPUID; see AMD 56860.
_TCB: Final = {
    "00a00f": {"boot_loader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "00a10f": {"boot_loader": 0, "tee": 1, "snp": 6, "microcode": 7},
    "00b00f": {"fmc": 0, "boot_loader": 1, "tee": 2, "snp": 3, "microcode": 7},
}


class Bindings:
    """What a script of one phase may ask for, over one transaction.

    Args:
        transaction: that it reads and writes.
        phase: of the script.
        effects: the node's side; None where no script applies anything.
        check_constitution: evaluates a constitution, and raises :class:`HostFault` if it is not valid.
    """

    def __init__(
        self,
        transaction: Transaction,
        phase: Phase,
        effects: Effects | None,
        check_constitution: Callable[[str], None],
    ) -> None:
        self._transaction = transaction
        self._phase = phase
        self._effects = effects if phase is Phase.APPLY else None
        self._operations: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "applies": lambda: self._effects is not None,
            "has": lambda table, key: transaction.has(*self._key(table, key, Access.READ)),
            "get": lambda table, key: transaction.get(*self._key(table, key, Access.READ)),
            "set": self._set,
            "delete": lambda table, key: transaction.remove(*self._key(table, key, Access.WRITE)),
            "clear": self._clear,
            "size": lambda table: len(self._items(table)),
            "items": self._items,
            "version": self._version,
            "digest": crypto.digest,
            "verifySignature": crypto.verify_signature,
            "isCertificates": crypto.are_certificates,
            "isChain": crypto.is_chain,
            "jwk": crypto.jwk,
            "pemToId": crypto.pem_to_id,
            "tcbPolicy": _tcb_policy,
            "checkConstitution": lambda source: check_constitution(_text(source)),
            "rekey": lambda: self._node().rekey(transaction),
            "refreshShares": lambda: self._node().refresh_shares(transaction),
            "closeChunk": lambda: self._node().close_chunk(),
            "snapshot": lambda: self._node().snapshot(),
            "acme": self._acme,
            "open_service": lambda before, next_: self._node().open_service(transaction, before, next_),
            "secretVersion": lambda: self._node().secret_version(),
            "endorseNode": lambda csr, since, days: self._node().endorse_node(csr, since, days),
            "renewService": lambda since, days: self._node().renew_service(since, days),
            "setJwtKeys": self._set_jwt_keys,
            "removeJwtKeys": lambda issuer: jwt.remove_keys(self._applying(), _text(issuer)),
            "refreshBytecode": self._refresh_bytecode,
        }

    def __call__(self, operation: Value, *arguments: Value) -> Value:
        """Run the operation that a script calls.

        Raises:
            HostFault: it is not allowed, or the arguments are not of its kind.
        """
        method = self._operations.get(operation) if isinstance(operation, str) else None
        if method is None:
            raise HostFault("ccf: there is no such operation", "TypeError")
        result: Value = method(*arguments)
        return result

    def _open(self, table: Value) -> None:
        name = _text(table)
        if not 0 < len(name.encode("utf-8", "replace")) <= MAX_TABLE:
            raise HostFault(f"a table's name has 1 to {MAX_TABLE} bytes", "RangeError")

    def _key(self, table: Value, key: Value, wanted: Access) -> tuple[str, bytes]:
        name = _text(table)
        check(self._phase, name, wanted)
        if not isinstance(key, bytes):
            raise HostFault("a key is an ArrayBuffer", "TypeError")
        return name, key

    def _set(self, table: Value, key: Value, value: Value) -> None:
        name, raw = self._key(table, key, Access.WRITE)
        if not isinstance(value, bytes):
            raise HostFault("a value is an ArrayBuffer", "TypeError")
        self._transaction.put(name, raw, value)

    def _items(self, table: Value) -> list[Any]:
        name = _text(table)
        check(self._phase, name, Access.READ)
        return [[key, value] for key, value in self._transaction.items(name)]

    def _clear(self, table: Value) -> None:
        name = _text(table)
        check(self._phase, name, Access.WRITE)
        for key, _ in list(self._transaction.items(name)):
            self._transaction.remove(name, key)

    def _version(self, table: Value, key: Value) -> int | None:
        name, raw = self._key(table, key, Access.READ)
        return None if self._effects is None else self._effects.version(name, raw)

    def _node(self) -> Effects:
        if self._effects is None:
            raise HostFault("this belongs to apply() only", "TypeError")
        return self._effects

    def _applying(self) -> Transaction:
        self._node()
        return self._transaction

    def _acme(self) -> None:
        raise HostFault("certificates of ACME are not issued here")

    def _refresh_bytecode(self) -> None:
        self._node()  # and nothing else: there is no cache, since source is compiled where it runs

    def _set_jwt_keys(self, issuer: Value, metadata: Value, jwks: Value) -> None:
        del metadata  # CCF takes it for attested keys of SGX, which are gone
        try:
            keys = jcs.loads(_text(jwks).encode(), "key set", real=lambda text: text)
        except FormatError as error:
            raise HostFault(error.message) from None
        jwt.set_keys(self._applying(), _text(issuer), keys)


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise HostFault("the argument is no string", "TypeError")
    return value


def _tcb_policy(cpuid: Value, version: Value) -> Value:
    parts = _TCB.get(_text(cpuid).lower()[:6])
    try:
        raw = bytes.fromhex(_text(version))[::-1]
    except ValueError:
        raw = b""
    if parts is None or len(raw) != 8:
        raise HostFault("want the CPUID of Milan, Genoa or Turin, and 16 hexadecimal digits")
    return {**{name: raw[at] for name, at in parts.items()}, "hexstring": _text(version)}
