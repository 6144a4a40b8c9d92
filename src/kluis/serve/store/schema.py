"""The tables of a host's stores: only sizes, counts and epochs in them are plaintext.

One database may contain several stores; each has a row in ``stores``, which commits lock.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table

METADATA: Final = MetaData()

STORES: Final = Table(
    "stores",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("epoch", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
)

RECORDS: Final = Table(
    "records",
    METADATA,
    Column("store", Integer, ForeignKey("stores.id"), primary_key=True),
    Column("id", LargeBinary(32), primary_key=True),
    Column("version", LargeBinary(24), nullable=False),
    Column("label", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
)

JOURNAL: Final = Table(
    "journal",
    METADATA,
    Column("store", Integer, ForeignKey("stores.id"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("entry", LargeBinary, nullable=False),
)

KEYS: Final = Table(
    "keys",
    METADATA,
    Column("store", Integer, ForeignKey("stores.id"), primary_key=True),
    Column("platform", LargeBinary(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

MESSAGES: Final = Table(
    "messages",
    METADATA,
    Column("store", Integer, ForeignKey("stores.id"), primary_key=True),
    Column("joiner", LargeBinary(16), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
