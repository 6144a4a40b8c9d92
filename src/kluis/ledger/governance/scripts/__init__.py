"""What governance scripts reach: tables by phase, functions of ``ccf``, the node's side of ``apply()``."""
