"""The host's database of enclaves' sealed records; it is not trusted."""

from kluis.serve.store.database import Database
from kluis.serve.store.keeping import records

__all__ = ["Database", "records"]
