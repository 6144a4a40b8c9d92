"""A whole ledger, made at once: for tools, tests and benchmarks that need one."""

from kluis.ledger.sample.ledger import LEAST, Sample, make

__all__ = ["LEAST", "Sample", "make"]
