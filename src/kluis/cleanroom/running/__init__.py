"""One run: the enclave's session, the owners' clients that release keys to it, and the host between them."""
