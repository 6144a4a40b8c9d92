"""AMD SEV-SNP: reports, what endorses them, and what a launch measures."""
