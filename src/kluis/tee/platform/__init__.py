"""The emulated root of trust: its keys, reports, quotes, seal keys and certificate authority."""
