"""The whole program that runs inside: a clean room, under a separate name."""

from kluis.cleanroom import room

app = room("nafld", product_id=31, svn=1)
