"""Confidential virtual machines."""
