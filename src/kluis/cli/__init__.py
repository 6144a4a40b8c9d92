"""The command line: one module a room, mounted by name and loaded when used."""
