"""Checks a ledger that others wrote, from its files."""

from kluis.ledger.audit.auditor import Level, audit
from kluis.ledger.audit.copies import Copy
from kluis.ledger.audit.end import Expected
from kluis.ledger.audit.files import Source
from kluis.ledger.audit.report import Check, Finding, Report, Result

__all__ = ["Check", "Copy", "Expected", "Finding", "Level", "Report", "Result", "Source", "audit"]
