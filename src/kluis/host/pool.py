"""Pool: several enclaves of one image, as an executor. A call goes to a free one."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from kluis.errors import AuthenticityError, EnclaveDied, UsageError
from kluis.host.loading import load
from kluis.host.proxy import EnclaveProxy

MOST: Final = 256


class Pool(Executor):
    """Enclaves of one image; each is started when needed, and executes one call at a time.

        with Pool("cohort.kluis", 4, prepare=lambda enclave: enclave.attest(policy)) as pool:
            ages = list(pool.map("mean_age", files))

    If an enclave dies, its running call fails: whether that had an effect is unknown, so it is not repeated.
    The next call starts another enclave.

    Args:
        path: a ``.kluis`` file.
        size: maximum number of enclaves, 1..256.
        prepare: called with every enclave before its first call: attest it, send it keys.
        options: as for :func:`kluis.host.load`.

    Raises:
        UsageError: ``size`` is out of range.
        KluisError: the first enclave cannot be started, or ``prepare`` refuses it.
    """

    def __init__(
        self,
        path: Path | str,
        size: int,
        *,
        prepare: Callable[[EnclaveProxy], object] | None = None,
        **options: Any,
    ) -> None:
        if not 1 <= size <= MOST:
            raise UsageError(f"pool: want a size of 1..{MOST}, got {size}")
        self._path, self._prepare, self._options = path, prepare, options
        self._idle: queue.LifoQueue[EnclaveProxy] = queue.LifoQueue()
        self._all: set[EnclaveProxy] = set()
        self._lock = threading.Lock()
        self._image_id = b""
        self._idle.put(self._start())
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="kluis-pool")

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call an ecall by its name, or a function that takes the enclave as its first argument.

        Raises:
            UsageError: ``fn`` is neither of them.
            RuntimeError: the pool was shut down.
        """
        if not isinstance(fn, str) and not callable(fn):
            raise UsageError(f"pool: want an ecall's name or a function, got {type(fn).__name__}")
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the pool down: waiting calls are completed first, or cancelled; then every enclave is
        closed.
        """
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        with self._lock:
            enclaves, self._all = self._all, set()
        for enclave in enclaves:
            enclave.close()

    def _call(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            enclave = self._idle.get_nowait()
        except queue.Empty:
            enclave = self._start()
        try:
            call = getattr(enclave, fn) if isinstance(fn, str) else functools.partial(fn, enclave)
            made = call(*args, **kwargs)
        except EnclaveDied:
            self._discard(enclave)
            raise
        except BaseException:
            self._idle.put(enclave)
            raise
        self._idle.put(enclave)
        return made

    def _start(self) -> EnclaveProxy:
        enclave: EnclaveProxy = load(self._path, **self._options)
        try:
            with self._lock:
                self._image_id = self._image_id or enclave.image_id
            if enclave.image_id != self._image_id:
                raise AuthenticityError(
                    f"pool: want image id {self._image_id.hex()}, got {enclave.image_id.hex()}",
                    hint="the file changed while the pool ran; start another pool",
                    code="image_changed",
                )
            if self._prepare is not None:
                self._prepare(enclave)
        except BaseException:
            enclave.close()
            raise
        with self._lock:
            self._all.add(enclave)
        return enclave

    def _discard(self, enclave: EnclaveProxy) -> None:
        with self._lock:
            self._all.discard(enclave)
        enclave.close()
