"""A sealed key-value store kept by the host, which cannot read keys or values, or change or roll back a
record.
"""

from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.enclave.store.records import Records
from kluis.enclave.store.sealed import SealedStore
from kluis.enclave.store.witness import Witness

__all__ = ["Reading", "Records", "SealedStore", "Storage", "Witness", "Writing"]
