"""Outside: the database in which a host keeps what enclaves sealed; it is trusted with nothing."""

from kluis.serve.store.database import Database
from kluis.serve.store.keeping import records

__all__ = ["Database", "records"]
