"""Kluis: confidential computing in Python, from the enclave to the clean room."""

__version__ = "0.1.0"
