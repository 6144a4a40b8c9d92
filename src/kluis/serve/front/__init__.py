"""What clients on a network see: the operator's own certificate, and the addresses of the services."""
