"""Outside: the database in which a host keeps what enclaves sealed; it is trusted with nothing."""

from kluis.serve.store.database import Database, records

__all__ = ["Database", "records"]
