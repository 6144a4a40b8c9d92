"""What starts a SEV-SNP guest, and what that measures to."""
