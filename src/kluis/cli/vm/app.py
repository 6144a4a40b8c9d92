"""``kluis vm``: confidential virtual machines, and their guest."""

from __future__ import annotations

from kluis.cli.vm import guest, machines

COMMANDS = (guest.GROUP, *machines.COMMANDS)
