"""One module for each migration: ``v`` and its number."""
