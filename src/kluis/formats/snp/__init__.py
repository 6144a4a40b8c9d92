"""AMD SEV-SNP: reports, their endorsements, and the structures that a launch measures."""
