"""Secure Key Release: send a key to an attested environment, encrypted to a key generated inside it."""
