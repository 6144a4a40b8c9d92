"""The commands of a TPM 2.0 that drivers, sealing and witnesses need.

Each response is parsed completely, and bounded. Objects that a command creates are the caller's to flush.

Spec: TCG "TPM 2.0 Library Part 3: Commands".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding.reader import Reader
from kluis.formats.tpm import attest, nv, public, sealed, signature
from kluis.formats.tpm.algorithm import NULL, HashId
from kluis.formats.tpm.attest import Selection, encode_sized, read_sized
from kluis.formats.tpm.command import NULL as NO_HANDLE
from kluis.formats.tpm.command import OWNER, Authorization, Command, Response, encode, parse, parse_code
from kluis.formats.tpm.nv import NvPublic
from kluis.formats.tpm.public import Public
from kluis.formats.tpm.signature import Signature
from kluis.tee.tpm.faults import RETRY, fault
from kluis.tee.tpm.transport import DEVICE, Transport

_TRIES: Final = 16
_POLICY: Final = 1
_NV_CHUNK: Final = 512
"""Every TPM reads and writes at least 512 bytes of NV at once."""
_HANDLES: Final = 1
_MAX_HANDLES: Final = 254
_NO_AUTH: Final = (Authorization(),)


class Tpm:
    """One TPM.

    Args:
        transport: to it; closed with this object.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @classmethod
    def open(cls, path: str = DEVICE) -> Self:
        """Open the TPM at ``path``.

        Raises:
            UnavailableError: there is none, or it cannot be opened.
        """
        return cls(Transport.open(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def run(
        self,
        command: Command,
        handles: tuple[int, ...] = (),
        parameters: bytes = b"",
        *,
        auth: tuple[Authorization, ...] = (),
        returns: int = 0,
    ) -> Response:
        """Run one command.

        Args:
            command: to run.
            handles: in order.
            parameters: after the handles.
            auth: of the first handles.
            returns: number of handles that it returns.

        Raises:
            UnavailableError: the TPM does not answer, or refuses; its code states why.
            FormatError: the response is malformed.
        """
        request = encode(command, handles, parameters, auth=auth)
        response = self._transport.exchange(request)
        for _ in range(_TRIES):
            if parse_code(response) not in RETRY:
                break
            response = self._transport.exchange(request)
        if code := parse_code(response):
            raise fault(command.name, code)
        return parse(response, returns, len(auth))

    def random(self, size: int) -> bytes:
        """Return ``size`` random bytes, at most 32."""
        data = _only(self.run(Command.GET_RANDOM, parameters=size.to_bytes(2, "big")), "random", 64)
        if len(data) != size:
            raise FormatError(f"TPM random: want {size} bytes, got {len(data)}", code="bad_length")
        return data

    def handles(self, first: int) -> tuple[int, ...]:
        """The handles in use from ``first`` on, of its kind; at most 254."""
        request = b"".join(number.to_bytes(4, "big") for number in (_HANDLES, first, _MAX_HANDLES))
        r = _reader(self.run(Command.GET_CAPABILITY, parameters=request))
        r.u8("more")
        if (kind := r.u32("capability")) != _HANDLES:
            raise FormatError(f"TPM capability: want {_HANDLES}, got {kind}", code="bad_type")
        count = r.u32("count")
        if count > _MAX_HANDLES:
            raise FormatError(
                f"TPM capability: {count} handles, must be at most {_MAX_HANDLES}", code="too_large"
            )
        numbers = tuple(r.u32("handle") for _ in range(count))
        r.end()
        return numbers

    def pcrs(self, indices: tuple[int, ...], bank: HashId = HashId.SHA256) -> dict[int, bytes]:
        """Read PCRs: by index, ascending.

        Raises:
            UnavailableError: the TPM refuses.
            FormatError: the TPM does not have the bank, or returns other PCRs.
        """
        values: dict[int, bytes] = {}
        left = sorted(indices)
        while left:
            r = _reader(self.run(Command.PCR_READ, parameters=_selections(Selection.of(bank, *left))))
            r.u32("update_counter")
            read = _read_selection(r, bank)
            count = r.u32("count")
            if not read or count != len(read) or not set(read) <= set(left):
                raise FormatError(
                    f"TPM PCRs: want {left} of {bank.label}, got {list(read)}", code="bad_length"
                )
            for index in read:
                value = read_sized(r, "digest", 64)
                if len(value) != bank.size:
                    raise FormatError(
                        f"TPM PCR {index}: want {bank.size} bytes, got {len(value)}", code="bad_length"
                    )
                values[index] = value
            r.end()
            left = [index for index in left if index not in values]
        return dict(sorted(values.items()))

    def extend(self, index: int, digest: bytes, bank: HashId = HashId.SHA256) -> None:
        """Extend one PCR with a digest of its bank's size."""
        digests = (1).to_bytes(4, "big") + bank.to_bytes(2, "big") + digest
        self.run(Command.PCR_EXTEND, (index,), digests, auth=_NO_AUTH)

    def create_primary(self, hierarchy: int, template: bytes) -> int:
        """Create a primary key of ``template``, a TPMT_PUBLIC, and return its handle."""
        parameters = _sensitive(b"") + encode_sized(template) + encode_sized(b"") + bytes(4)
        return self.run(Command.CREATE_PRIMARY, (hierarchy,), parameters, auth=_NO_AUTH, returns=1).handles[0]

    def seal(self, parent: int, template: bytes, data: bytes) -> tuple[bytes, bytes]:
        """Seal ``data``, at most 128 bytes; return the encrypted private area and the TPMT_PUBLIC."""
        parameters = _sensitive(data) + encode_sized(template) + encode_sized(b"") + bytes(4)
        r = _reader(self.run(Command.CREATE, (parent,), parameters, auth=_NO_AUTH))
        private = read_sized(r, "private", sealed.MAX_AREA)
        area = read_sized(r, "public", sealed.MAX_AREA)
        return private, area  # followed by data about its creation, which nothing needs

    def load(self, parent: int, private: bytes, area: bytes) -> int:
        """Load an object and return its handle."""
        parameters = encode_sized(private) + encode_sized(area)
        return self.run(Command.LOAD, (parent,), parameters, auth=_NO_AUTH, returns=1).handles[0]

    def unseal(self, item: int, session: int) -> bytes:
        """Return the data of a sealed object, at most 128 bytes, under a policy session."""
        return _only(self.run(Command.UNSEAL, (item,), auth=(Authorization(session),)), "data", 128)

    def flush(self, handle: int) -> None:
        """Remove an object or a session from the TPM's memory."""
        self.run(Command.FLUSH_CONTEXT, parameters=handle.to_bytes(4, "big"))

    @contextlib.contextmanager
    def holding(self, handle: int) -> Iterator[int]:
        """Flush ``handle`` at the end."""
        try:
            yield handle
        finally:
            self.flush(handle)

    @contextlib.contextmanager
    def pcr_session(self, indices: Iterable[int]) -> Iterator[int]:
        """Open a policy session for the current values of these PCRs; flush it at the end."""
        parameters = b"".join(
            (
                encode_sized(os.urandom(16)),
                encode_sized(b""),
                bytes([_POLICY]),
                NULL.to_bytes(2, "big"),
                HashId.SHA256.to_bytes(2, "big"),
            )
        )
        response = self.run(Command.START_AUTH_SESSION, (NO_HANDLE, NO_HANDLE), parameters, returns=1)
        _only(response, "nonce", 64)
        with self.holding(response.handles[0]) as session:
            # Without a digest the session takes the current values; the object's policy then compares them.
            self.run(Command.POLICY_PCR, (session,), encode_sized(b"") + sealed.selection(indices))
            yield session

    def quote(self, key: int, data: bytes, selected: Selection) -> tuple[bytes, Signature]:
        """Sign PCR values and ``data``, at most 32 bytes; return the TPMS_ATTEST and the signature."""
        parameters = encode_sized(data) + NULL.to_bytes(2, "big") + _selections(selected)
        r = _reader(self.run(Command.QUOTE, (key,), parameters, auth=_NO_AUTH))
        message = read_sized(r, "quoted", attest.MAX_SIZE)
        return message, signature.parse(r.take(r.left, "signature"))

    def certify(self, item: int, key: int) -> tuple[bytes, Signature]:
        """Have ``key`` certify a loaded object; return the TPMS_ATTEST and the signature."""
        parameters = encode_sized(b"") + NULL.to_bytes(2, "big")
        r = _reader(self.run(Command.CERTIFY, (item, key), parameters, auth=_NO_AUTH * 2))
        message = read_sized(r, "certified", attest.MAX_SIZE)
        return message, signature.parse(r.take(r.left, "signature"))

    def decrypt(self, key: int, data: bytes, scheme: bytes) -> bytes:
        """Decrypt with an RSA key, without a label.

        Args:
            key: handle.
            data: at most 512 bytes.
            scheme: TPMT_RSA_DECRYPT.
        """
        parameters = encode_sized(data) + scheme + encode_sized(b"")
        return _only(self.run(Command.RSA_DECRYPT, (key,), parameters, auth=_NO_AUTH), "message", 512)

    def read_public(self, handle: int) -> Public:
        """The public area of a signing key, or of one without a scheme.

        Raises:
            UnavailableError: there is no such key; code ``tpm_handle``.
            UnsupportedError: it is another kind of key.
        """
        r = _reader(self.run(Command.READ_PUBLIC, (handle,)))
        area = read_sized(r, "public", public.MAX_SIZE)
        read_sized(r, "name", 66)
        read_sized(r, "qualified_name", 66)
        r.end()
        return public.parse(area)

    def persist(self, item: int, handle: int) -> None:
        """Make a loaded object of the owner persistent at ``handle``, or remove it if both are the same."""
        self.run(Command.EVICT_CONTROL, (OWNER, item), handle.to_bytes(4, "big"), auth=_NO_AUTH)

    def nv_public(self, index: int) -> NvPublic:
        """The public area of an NV index.

        Raises:
            UnavailableError: it is not defined; code ``tpm_handle``.
        """
        r = _reader(self.run(Command.NV_READ_PUBLIC, (index,)))
        area = read_sized(r, "public", nv.MAX_SIZE)
        read_sized(r, "name", 66)
        r.end()
        parsed = nv.parse(area)
        if parsed.index != index:
            raise FormatError(f"TPM NV: want index {index:#x}, got {parsed.index:#x}", code="bad_encoding")
        return parsed

    def nv_define(self, area: NvPublic, secret: bytes = b"") -> None:
        """Define an NV index of the owner, with an authorization value of at most 32 bytes."""
        parameters = encode_sized(secret) + encode_sized(area.encode())
        self.run(Command.NV_DEFINE_SPACE, (OWNER,), parameters, auth=_NO_AUTH)

    def nv_undefine(self, index: int) -> None:
        """Remove an NV index of the owner, and its data."""
        self.run(Command.NV_UNDEFINE_SPACE, (OWNER, index), auth=_NO_AUTH)

    def nv_read(self, index: int, size: int, *, by: int | None = None, secret: bytes = b"") -> bytes:
        """Read an NV index from its start.

        Args:
            index: to read.
            size: bytes.
            by: handle that authorizes it; by default the index itself.
            secret: authorization value of ``by``.
        """
        content = b""
        auth = (Authorization(secret=secret),)
        while len(content) < size:
            part = min(_NV_CHUNK, size - len(content))
            parameters = part.to_bytes(2, "big") + len(content).to_bytes(2, "big")
            handles = (index if by is None else by, index)
            data = _only(self.run(Command.NV_READ, handles, parameters, auth=auth), "data", part)
            if len(data) != part:
                raise FormatError(f"TPM NV {index:#x}: want {part} bytes, got {len(data)}", code="bad_length")
            content += data
        return content

    def nv_write(self, index: int, data: bytes, *, by: int | None = None, secret: bytes = b"") -> None:
        """Write an NV index from its start; at most 512 bytes change at once."""
        auth = (Authorization(secret=secret),)
        for at in range(0, len(data), _NV_CHUNK):
            parameters = encode_sized(data[at : at + _NV_CHUNK]) + at.to_bytes(2, "big")
            self.run(Command.NV_WRITE, (index if by is None else by, index), parameters, auth=auth)

    def nv_increment(self, index: int, *, secret: bytes = b"") -> None:
        """Add one to a counter."""
        self.run(Command.NV_INCREMENT, (index, index), auth=(Authorization(secret=secret),))


def _reader(response: Response) -> Reader:
    return Reader(response.parameters, "TPM response", byte_order="big")


def _only(response: Response, field: str, most: int) -> bytes:
    r = _reader(response)
    data = read_sized(r, field, most)
    r.end()
    return data


def _sensitive(data: bytes) -> bytes:
    return encode_sized(encode_sized(b"") + encode_sized(data))


def _selections(selected: Selection) -> bytes:
    bitmap = bytes([len(selected.bitmap)]) + selected.bitmap
    return (1).to_bytes(4, "big") + selected.bank.to_bytes(2, "big") + bitmap


def _read_selection(r: Reader, bank: HashId) -> tuple[int, ...]:
    if (count := r.u32("selections")) != 1:
        raise FormatError(f"TPM PCRs: want 1 bank, got {count}", code="bad_length")
    got, size = r.u16("bank"), r.u8("select_size")
    if got != bank or not 1 <= size <= attest.MAX_SELECT:
        raise FormatError(f"TPM PCRs: want bank {bank:#x}, got {got:#x}", code="bad_type")
    return Selection(bank, r.take(size, "bitmap")).indices
