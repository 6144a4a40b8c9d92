"""``kluis ledger``: a confidential ledger, from its files and, where it runs, from its node."""

from __future__ import annotations

from kluis.cli.ledger import explain, offline, online, proving, tailing

COMMANDS = (*online.COMMANDS, *offline.COMMANDS, proving.receipt, tailing.tail, explain.explain)
