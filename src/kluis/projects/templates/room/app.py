"""The whole program that runs inside. Kluis provides the code of the room."""

from kluis.cleanroom import room

app = room("project_name", product_id=1, svn=1)
