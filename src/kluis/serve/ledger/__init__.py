"""A ledger's host: its log on disk, and what the command line does with it. None of it is trusted."""
