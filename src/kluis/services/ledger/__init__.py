"""A confidential ledger of one node: its engine, and the REST of CCF and of Azure Confidential Ledger."""
