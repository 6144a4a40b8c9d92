"""A confidential ledger: its entries, signatures and receipts, and checks of a ledger that others wrote."""
