"""Queries over sealed data: parsed into a tree, written as generated SQL, and published by rules.

::

    text --syntax--> scope, groups, person_table --> tree     ``sqlglot`` only parses
    tree --writing--> generated SQL --engine--> cells        the engine never sees the author's text
    cells --publishing--> numbers --outputs--> rows           only ``publishing`` decides what leaves

``tree`` contains everything that a query can express; the reader has no case for anything else, and refuses
it.
"""

from kluis.cleanroom.query.groups import read_groups
from kluis.cleanroom.query.outputs import kinds, rows
from kluis.cleanroom.query.person_table import read_person_table
from kluis.cleanroom.query.publishing import Release, publish
from kluis.cleanroom.query.tree import Groups, PersonTable, QueryError
from kluis.cleanroom.query.writing import write_cells, write_person_table

__all__ = [
    "Groups",
    "PersonTable",
    "QueryError",
    "Release",
    "kinds",
    "publish",
    "read_groups",
    "read_person_table",
    "rows",
    "write_cells",
    "write_person_table",
]
