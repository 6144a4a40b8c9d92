"""Event logs of measured boots: the events extended into PCRs and RTMRs, in order. Nothing here is
verified.
"""
