"""Outside: what starts the services on this machine, and what they stand on. Nothing here is trusted."""
