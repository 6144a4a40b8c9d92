"""AMD's evidence: SEV-SNP reports."""
