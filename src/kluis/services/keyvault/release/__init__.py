"""Secure Key Release: a key leaves for an attested environment, sealed to a key made inside it."""
