"""One module a step: ``v`` and its number."""
