"""Queries over sealed data: parsed, checked against what owners allow, rewritten with the output rules.

What the list in ``grammar`` does not name does not exist. ``output`` guards a query whose rows leave the
room; ``person`` checks a table of one row a person that stays inside, for a model.
"""

from kluis.cleanroom.query.output import Guarded, guard
from kluis.cleanroom.query.person import PersonTable, person_table

__all__ = ["Guarded", "PersonTable", "guard", "person_table"]
