"""Services that run inside enclaves, and their common parts."""
