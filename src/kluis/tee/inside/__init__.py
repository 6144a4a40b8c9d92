"""Inside a machine: its first program, and the agent between hosts' streams and the machine's platform."""
