"""Sealed data sets, the values that a query reads of them, and the engine that computes on them."""
