"""Test helpers for applications: rehearsals that start at once, and malicious hosts."""
