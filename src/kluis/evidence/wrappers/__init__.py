"""Wrappers of evidence: removed before it is verified, and compared with it afterwards."""
