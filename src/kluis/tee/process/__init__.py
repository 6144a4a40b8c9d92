"""Isolation by Linux: launcher, sandbox, secret memory, guardian."""
