"""Bytes to values and back: no trust, no clock, no input or output."""
