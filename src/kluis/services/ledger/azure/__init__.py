"""Azure Confidential Ledger's REST, in the shape of each of its versions."""
