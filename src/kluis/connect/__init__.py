"""A proxy on loopback that verifies an enclave, and forwards HTTP/1.1 and WebSocket to it."""
