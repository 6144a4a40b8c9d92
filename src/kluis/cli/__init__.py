"""The command line: one module per command group, listed by name and loaded when used."""
