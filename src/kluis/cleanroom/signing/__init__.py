"""Before a run: a plan becomes an agreement, which is explained to its signer and approved."""
