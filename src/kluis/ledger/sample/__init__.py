"""A whole ledger, made at once: for tools, tests and benchmarks that need one."""

from kluis.ledger.sample.ledger import LEAST, Sample, extras, make

__all__ = ["LEAST", "Sample", "extras", "make"]
