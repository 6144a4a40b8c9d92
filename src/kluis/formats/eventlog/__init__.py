"""Event logs of measured boots: what was extended into PCRs and RTMRs, in order. Nothing here is verified."""
