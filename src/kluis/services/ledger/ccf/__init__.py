"""CCF's REST: what every actor answers, what a node tells of itself, and governance."""
