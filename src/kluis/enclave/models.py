"""Open a sealed model inside: its weights are decrypted into the enclave's memory, and written to no file.

The ciphertext is mapped, from the image or from a sealed memory file of the host. The plaintext is in
anonymous pages, which an enclave takes from its secret heap. A memory file would not be secret: root can
open one through ``/proc``. See ``docs/decisions/0036-weights-are-opened-on-the-heap.md``::

    model = open_model(Path(__file__).with_name("chat.sealed"), key)
    session = model.session("model.onnx")   # onnxruntime's; its external data comes from the model
"""

from __future__ import annotations

import hmac
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from kluis.errors import AuthenticityError, FormatError, UsageError
from kluis.formats.kluis.sealed_model import TAG_BYTES, Header, ModelKeys, SealedFile, spans
from kluis.formats.onnx.external import external_files

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Model", "open_model"]

_WHAT: Final = "sealed model"
_SILENT: Final = 4  # of onnxruntime's severities: only what ends the process


class Model:
    """An opened model; its plaintext exists until :meth:`close`.

    Attributes:
        model_id: 32 bytes; one key and one content have it.
        files: read-only memory of each file's plaintext, by its name.
    """

    def __init__(self, model_id: bytes, memory: dict[str, mmap.mmap | bytes]) -> None:
        self.model_id = model_id
        self._memory = memory
        self._views = {name: memoryview(one).toreadonly() for name, one in memory.items()}
        self.files: Mapping[str, memoryview] = MappingProxyType(self._views)

    def session(self, name: str = "model.onnx", *, threads: int = 0) -> onnxruntime.InferenceSession:
        """Create a session of onnxruntime from a file of the model. External data comes from the model, too.

        Args:
            name: of the ONNX file.
            threads: of one computation; 0: one for each processor that the enclave may use.

        Raises:
            UsageError: the model has no such file.
            FormatError: not an ONNX model, or it names a file that the model does not have.
        """
        import onnxruntime  # only an application that computes with ONNX has it

        if name not in self.files:
            raise UsageError(f"{_WHAT}: want one of {', '.join(self.files)}, got {name[:64]!a}")
        graph = bytes(self.files[name])
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT  # standard error is the host's
        # onnxruntime's own default reads files that an enclave does not have, and then takes half.
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        if stored := self._external(graph, name):
            sizes = [len(part) for part in stored.values()]
            options.add_external_initializers_from_files_in_memory(list(stored), list(stored.values()), sizes)
        try:
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - onnxruntime has a class for each status, none of them public
            # Its text may quote the model.
            raise FormatError(f"{_WHAT}: {name}: onnxruntime refuses it: {type(error).__name__}") from None

    def _external(self, graph: bytes, name: str) -> dict[str, memoryview]:
        """The files that a graph names, which are relative to its folder."""
        folder = name.rpartition("/")[0]
        files = {}
        for each in sorted(external_files(graph)):
            path = f"{folder}/{each}" if folder else each
            if path not in self.files:
                raise FormatError(
                    f"{_WHAT}: {name}: want external data only in files of the model, got {each[:64]!a}",
                    hint="put that file next to the ONNX file, in the folder that kluis model seal reads",
                    code="model_file",
                )
            files[each] = self.files[path]
        return files

    def close(self) -> None:
        """Release the plaintext; the enclave's pages are zeroed. Safe to repeat."""
        for view in self._views.values():
            view.release()
        for one in self._memory.values():
            if isinstance(one, mmap.mmap):
                one.close()
        self._views.clear()
        self._memory.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Release the plaintext."""
        self.close()

    def __repr__(self) -> str:
        return f"Model({self.model_id.hex()[:16]}, files={sorted(self._memory)})"


def open_model(sealed: Path | bytes | memoryview, key: bytes, *, model_id: bytes | None = None) -> Model:
    """Open a sealed model.

    1. It is the expected model, if ``model_id`` is given.
    2. It was sealed under this key.
    3. Each chunk opens at its place.
    4. Each file's plaintext has the MAC that the header states.

    Args:
        sealed: its bytes, or the path of a file, which is mapped.
        key: 32 bytes.
        model_id: 32 bytes, as ``kluis model show`` prints it; None accepts any model under this key.

    Raises:
        FormatError: not a sealed model, or another length.
        AuthenticityError: a step fails.
        UsageError: the file cannot be read, or the key has another length.
    """
    with _view(sealed) as view:
        header, position = Header.parse(view, len(view))
        stated = header.model_id()
        if model_id is not None and not hmac.compare_digest(stated, model_id):  # 1
            raise AuthenticityError(
                f"{_WHAT}: want {model_id.hex()}, got {stated.hex()}", code="sealed_model"
            )
        keys = ModelKeys(key, header.salt)
        keys.check(header)  # 2
        memory: dict[str, mmap.mmap | bytes] = {}
        for number, file in enumerate(header.files):
            with view[position : position + file.sealed_bytes()] as part:
                memory[file.name] = _open_file(part, keys, stated, number, file)  # 3, 4
            position += file.sealed_bytes()
    return Model(stated, memory)


@contextmanager
def _view(sealed: Path | bytes | memoryview) -> Iterator[memoryview]:
    """The bytes of a sealed model, mapped if they are in a file."""
    if not isinstance(sealed, Path):
        with memoryview(sealed) as view:
            yield view
        return
    try:
        with sealed.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "is empty"
        raise UsageError(f"{sealed}: cannot be read: {problem}") from None
    try:
        with memoryview(mapped) as view:
            yield view
    finally:
        with suppress(
            BufferError
        ):  # an error on its way still refers to a part, and is what the caller needs
            mapped.close()


def _open_file(
    sealed: memoryview, keys: ModelKeys, model_id: bytes, number: int, file: SealedFile
) -> mmap.mmap | bytes:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory: Any = mmap.mmap(-1, file.size, flags=flags) if file.size else bytearray()
    mac, at = keys.mac(), 0
    with memoryview(memory) as plain:
        for chunk, (start, end) in enumerate(spans(file.size)):
            size = end - start + TAG_BYTES
            into = plain[start:end]
            keys.open(model_id, number, chunk, sealed[at : at + size], into, file.name)  # 3
            mac.update(into)
            at += size
    if not hmac.compare_digest(mac.digest(), file.mac):  # 4
        raise AuthenticityError(f"{_WHAT}: {file.name}: has another content than stated", code="sealed_model")
    return memory if file.size else b""
