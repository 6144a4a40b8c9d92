"""Formats of Intel TDX: reports of trust domains. Nothing here is verified."""
