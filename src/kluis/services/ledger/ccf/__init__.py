"""CCF's REST: what every actor answers, a node's information about itself, and governance."""
