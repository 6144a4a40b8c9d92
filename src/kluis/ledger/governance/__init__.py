"""Governance of a ledger: members, signed requests, proposals, ballots, and the constitution that decides."""
