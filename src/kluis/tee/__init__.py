"""The attester: who measures, isolates and vouches."""
