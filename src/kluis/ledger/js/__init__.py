"""JavaScript within a ledger: one engine, behind six methods."""

from kluis.ledger.js.engine import Engine
from kluis.ledger.js.limits import Limits
from kluis.ledger.js.values import HostFault, ScriptError, ScriptLimit, ScriptThrew, Value

__all__ = ["Engine", "HostFault", "Limits", "ScriptError", "ScriptLimit", "ScriptThrew", "Value"]
