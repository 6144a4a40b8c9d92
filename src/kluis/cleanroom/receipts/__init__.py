"""What a run produces: sealed results and a receipt, which is checked offline with the enclave's evidence."""
