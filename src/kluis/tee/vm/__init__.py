"""Confidential virtual machines: the guest, the machine that runs it, and what speaks inside."""
