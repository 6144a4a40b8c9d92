"""Services that run inside enclaves, and what they are made of."""
