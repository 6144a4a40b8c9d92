"""Wrappers around evidence: headers, certificates and JSON of other projects. Nothing here is verified."""
