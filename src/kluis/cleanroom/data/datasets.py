"""A data set at rest: Parquet with modular encryption, bound to its room, its version and its owner's terms.

Each version has one data key for AES-256-GCM and a uniform footer key. The AAD prefix is not stored in the
file. So a file does not open as another data set, version or part, in another room, or under other terms. The
agreement pins the hash of every sealed file; that is why the prefix names the room and not the agreement,
which would have to contain its own hash. ``release`` binds a key to one agreement.

    sealed file = the Parquet file || commitment to its key, 32 bytes

AES-GCM does not bind a ciphertext to one key: an owner could make a file that opens under several, and with
each of them a run has other noise (``noise``). The commitment is HMAC-SHA-256, under which no two keys of 32
bytes agree. Keys of other sizes are refused: HMAC adds zeros to a short key, so a key and the same key with
zeros after it would agree.

Spec: Apache Parquet, "Parquet Modular Encryption", AES_GCM_V1. Polars calls its side of it unstable: only
this module touches it.
"""

from __future__ import annotations

import hmac
import io
import os
import re
import warnings
from collections.abc import Sequence
from typing import Any

import polars as pl

from kluis.cleanroom.agreement.agreement import Dataset, Part
from kluis.cleanroom.agreement.documents import hash_of
from kluis.cleanroom.agreement.terms import Column, ColumnType, Range, Terms, Use
from kluis.errors import AuthenticityError, FormatError, KluisError, PolicyError, UnsupportedError, UsageError
from kluis.hashes import sha256

KEY_SIZE = 32
COMMITMENT_SIZE = 32
_ENCRYPTED = b"PARE"  # at both ends of a file whose footer is encrypted; polars opens others without the key


class Stream:
    """A table as others read it by Arrow's C interface, as often as they like; no pyarrow between."""

    def __init__(self, table: pl.DataFrame) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def without_claims(table: pl.DataFrame) -> pl.DataFrame:
    """The same values, without what polars believes of them unseen.

    A Parquet file can state that a column is sorted. Polars then finds equal values next to each other only,
    so that a co-owner could have many rows of one person pass for one each.
    """
    return pl.DataFrame(Stream(table))


def new_key() -> bytes:
    """Generate a data key, 32 bytes."""
    return os.urandom(KEY_SIZE)


def aad_prefix(room: str, dataset: str, version: int, part: int, terms: Terms) -> bytes:
    """The context that a file is bound to, in addition to its key; never stored in it."""
    return "|".join(("kluis-dataset/1", room, dataset, str(version), str(part), hash_of(terms))).encode()


def commitment(key: bytes, prefix: bytes) -> bytes:
    """What binds a sealed file to its key, 32 bytes.

    Args:
        key: 32 bytes.
        prefix: from :func:`aad_prefix`.

    Raises:
        FormatError: the key has another size.
    """
    if len(key) != KEY_SIZE:
        raise FormatError(f"data key: want {KEY_SIZE} bytes, got {len(key)}")
    return hmac.digest(key, b"kluis-dataset-key/1|" + prefix, "sha256")


def check_name(name: str, what: str) -> None:
    """Check that a data set's name can be used in queries.

    Raises:
        UsageError: it cannot; ``what`` names the option or the key.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name):
        near = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:62] or "people"
        raise UsageError(
            f"{what}: want letters, digits and _, no digit first, at most 63, got {name[:64]!a}",
            hint=f"queries use this name: {near if not near[0].isdigit() else f't{near}'}, for example",
        )


def columns_of(
    table: pl.DataFrame, allow: dict[str, Sequence[Use]], ranges: dict[str, Range]
) -> tuple[Column, ...]:
    """Describe a table's columns, the uses its owner allows, and their ranges.

    Args:
        table: to be sealed.
        allow: uses by column; an unnamed column allows none.
        ranges: by column.

    Raises:
        PolicyError: ``allow`` or ``ranges`` names a column that the table does not have.
        UnsupportedError: an agreement cannot express a column's type.
    """
    unknown = sorted({*allow, *ranges} - set(table.columns))
    if unknown:
        raise PolicyError(f"terms: want columns of {table.columns}, got {unknown}", code="terms")
    return tuple(
        Column(
            name=name,
            type=_type_of(name, kind),
            allow=tuple(sorted(set(allow.get(name, ())))),
            range=ranges.get(name),
        )
        for name, kind in table.schema.items()
    )


def seal(table: pl.DataFrame, key: bytes, room: str, dataset: str, version: int, terms: Terms) -> bytes:
    """Seal a table as one encrypted Parquet file, with the commitment to its key.

    Args:
        table: its columns and types are those of ``terms``, in that order.
        key: 32 bytes, used only for this version of this data set.
        room: 64 hex digits.
        dataset: its name in the agreement.
        version: from 1; every version has its own key.
        terms: the owner's; the file is bound to them.

    Raises:
        PolicyError: the table does not match the terms.
    """
    terms.check(f"data set {dataset}")
    check_table(table, terms, dataset)
    out, prefix = io.BytesIO(), aad_prefix(room, dataset, version, 0, terms)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # polars warns that the interface is unstable; pinned by the image
        encryption = pl.ParquetEncryptionProperties(footer_key=key, aad_prefix=prefix, store_aad_prefix=False)
        table.write_parquet(out, compression="zstd", encryption=encryption)
    return out.getvalue() + commitment(key, prefix)


def describe(files: Sequence[bytes]) -> tuple[Part, ...]:
    """Describe the parts of a data set for an agreement."""
    return tuple(Part(sha256=sha256(data).hex(), size_bytes=len(data)) for data in files)


def check_files(files: Sequence[bytes], dataset: Dataset) -> None:
    """Refuse files that are not the ones the agreement pins.

    Raises:
        AuthenticityError: another number of files, or another file.
    """
    if len(files) != len(dataset.parts):
        raise AuthenticityError(
            f"data set {dataset.id}: want {len(dataset.parts)} files, got {len(files)}", code="dataset"
        )
    for number, (data, part) in enumerate(zip(files, dataset.parts, strict=True)):
        got = sha256(data).hex()
        if got != part.sha256:
            raise AuthenticityError(
                f"data set {dataset.id} part {number}: want sha256 {part.sha256[:16]}.., got {got[:16]}..",
                code="dataset",
            )


def open_sealed(files: Sequence[bytes], key: bytes, room: str, dataset: Dataset) -> pl.DataFrame:
    """Open a data set, inside.

    1. The files are the ones the agreement pins.
    2. Each opens with the key, as this part of this version of this data set of this room under these terms.
    3. It matches the terms: ``check_table``.

    Raises:
        AuthenticityError: the same message for every failure of step 2 or 3.
    """
    check_files(files, dataset)  # 1
    return open_parts(files, key, room, dataset)  # 2, 3


def open_parts(files: Sequence[bytes], key: bytes, room: str, dataset: Dataset) -> pl.DataFrame:
    """Open files that have already been checked: steps 2 and 3 of ``open_sealed``.

    Raises:
        AuthenticityError: the same message for every failure: the host can read it, but must not learn about
            the contents.
    """
    try:
        tables = [_open_part(data, key, room, dataset, number) for number, data in enumerate(files)]  # 2
        table = pl.concat(tables)
        check_table(table, dataset.terms, dataset.id)  # 3
    except (KluisError, pl.exceptions.PolarsError, OSError, ValueError, pl.exceptions.PanicException):
        pass
    else:
        return table
    raise AuthenticityError(
        f"data set {dataset.id}: cannot be opened as the agreement has it", code="dataset"
    )


def _open_part(data: bytes, key: bytes, room: str, dataset: Dataset, number: int) -> pl.DataFrame:
    prefix = aad_prefix(room, dataset.id, dataset.version, number, dataset.terms)
    file, committed = data[:-COMMITMENT_SIZE], data[-COMMITMENT_SIZE:]
    if not hmac.compare_digest(committed, commitment(key, prefix)):
        raise FormatError(f"data set {dataset.id} part {number}: want a file of this key")
    if not file.startswith(_ENCRYPTED) or not file.endswith(_ENCRYPTED):
        raise FormatError(f"data set {dataset.id} part {number}: want an encrypted file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in seal
        decryption = pl.ParquetDecryptionProperties(footer_key=key, aad_prefix=prefix)
        # Before a value is read: polars takes those of its extension type for addresses.
        schema = pl.scan_parquet(io.BytesIO(file), decryption=decryption).collect_schema()
        _check_columns(schema, dataset.terms, dataset.id)
        return pl.read_parquet(io.BytesIO(file), decryption=decryption)


def check_table(table: pl.DataFrame, terms: Terms, dataset: str) -> None:
    """Check a table against its terms: columns, types, a privacy unit in every row, rows of one person.

    Raises:
        PolicyError: names the difference, without a value or a number of rows.
    """
    _check_columns(table.schema, terms, dataset)
    unit = without_claims(table.select(terms.privacy_unit)).to_series().rename("unit")
    if unit.null_count():
        raise PolicyError(
            f"data set {dataset}: want a {terms.privacy_unit} in every row, got rows without", code="terms"
        )
    if terms.rows_per_person and len(table):
        most = unit.value_counts()["count"].max()
        if not isinstance(most, int) or most > terms.rows_per_person:
            raise PolicyError(
                f"data set {dataset}: want at most {terms.rows_per_person} rows a person, got more",
                code="terms",
            )
    for name, kind in table.schema.items():
        if (
            kind.is_integer()
            and table[name].cast(pl.Int64, strict=False).null_count() > table[name].null_count()
        ):
            raise PolicyError(f"data set {dataset}: {name}: want whole numbers of 64 bits", code="terms")


def _check_columns(schema: pl.Schema, terms: Terms, dataset: str) -> None:
    want = [(column.name, column.type) for column in terms.columns]
    got = [(name, _type_of(name, kind)) for name, kind in schema.items()]
    if got != want:
        raise PolicyError(f"data set {dataset}: want columns {want}, got {got}", code="terms")


def _type_of(name: str, kind: pl.DataType) -> ColumnType:
    if kind.is_integer():
        return "integer"
    if kind.is_float() or kind.is_decimal():
        return "number"
    plain: dict[Any, ColumnType] = {
        pl.String: "string",
        pl.Boolean: "boolean",
        pl.Date: "date",
        pl.Datetime: "timestamp",
    }
    column_type = plain.get(kind.base_type())
    if column_type is None:
        raise UnsupportedError(
            f"column {name}: want a number, string, boolean, date or timestamp, got {kind}"
        )
    return column_type


def read_table(data: bytes, what: str, hint: str | None = None) -> pl.DataFrame:
    """Read a plain Parquet file of columns that an agreement can express.

    Polars takes the values of its extension type for addresses in memory, so columns of any other type are
    refused before a value is read.

    Args:
        data: the file.
        what: its name for error messages.
        hint: of the error if it is not Parquet.

    Raises:
        FormatError: not Parquet.
        UnsupportedError: an agreement cannot express a column's type.
    """
    try:
        for name, kind in pl.scan_parquet(io.BytesIO(data)).collect_schema().items():
            _type_of(name, kind)
        return pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise FormatError(f"{what}: want a Parquet file, got another", hint=hint) from error
