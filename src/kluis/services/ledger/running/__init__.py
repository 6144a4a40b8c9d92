"""The engine of a node: its state, read from the log; batches; what is read back, and proven."""
