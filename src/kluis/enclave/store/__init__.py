"""A sealed map that the host keeps: it sees neither keys nor values, and cannot change or set back one."""

from kluis.enclave.store.model import Reading, Storage, Writing
from kluis.enclave.store.records import Records
from kluis.enclave.store.sealed import SealedStore
from kluis.enclave.store.witness import Witness

__all__ = ["Reading", "Records", "SealedStore", "Storage", "Witness", "Writing"]
