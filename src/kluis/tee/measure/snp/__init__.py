"""Compute launch measurements of SEV-SNP guests."""
