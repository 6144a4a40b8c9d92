"""Isolation with Linux: launcher, sandbox, secret memory, guardian."""
