"""The spawner: the only part of the platform that may create namespaces and change user ids.

It is the parent of ``kluis-platformd``, takes its orders over one socket and has no secrets. It runs in a
separate mount namespace, whose tmpfs contains the measured layers; enclaves get these read-only. When the
platform ends, it ends every enclave and itself.

Orders are JSON datagrams with descriptors: ``hold`` a layer, ``drop`` it, ``launch``, ``check`` the program
that an enclave executes, ``kill``, and ``free``: whether an ended enclave's scratch is free. Reports
use the same socket: the answer to each order, and ``exited`` for each enclave that ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

from kluis.errors import AuthenticityError, KluisError
from kluis.tee.image import manifest
from kluis.tee.platform.launching import children, remeasure, scratch, unpacking
from kluis.tee.process import linux, native, sandbox

MAX_ORDER = 64 * 1024
ORDER_DESCRIPTORS = 6 + sandbox.MOST_GRANTED
INFO_FD = 8
OTHER_PROGRAM = b"kluis: another program was executed in the launcher's place: see /proc/sys/fs/binfmt_misc\n"
_FAILURES = (OSError, ValueError, KeyError, OverflowError, MemoryError, KluisError)
"""Exceptions of one order that must not end the spawner, and so every enclave."""


class Spawner:
    """Carries out the platform's orders until the platform closes the socket.

    Args:
        platform: the platform's end of the order socket.
        layers: directory of a private tmpfs.
        own_uids: give each enclave a separate user id (root's platform).
    """

    def __init__(self, platform: socket.socket, layers: Path, *, own_uids: bool) -> None:
        self.platform = platform
        self.layers = layers
        self.own_uids = own_uids
        self.bwrap = shutil.which("bwrap") or "bwrap"
        self.children: dict[str, children.Child] = {}
        self._uids: set[int] = set()
        self._files: dict[str, tuple[remeasure.File, ...]] = {}
        self._watched: dict[tuple[str, str], remeasure.Watched] = {}
        self._aside: dict[Path, set[str]] = {}  # changed layers, and the enclaves that may run from them
        self._scratches: dict[str, int] = {}  # of enclaves that have ended
        self._guardian = native.guardian()
        self._guardian_digest = remeasure.digest(self._guardian)

    def serve(self) -> None:
        """Serve until the platform closes the socket; leaves no process running."""
        try:
            while self._turn():
                pass
        finally:
            for child in self.children.values():
                child.kill()

    def _turn(self) -> bool:
        poll = select.poll()
        poll.register(self.platform, select.POLLIN)
        by_fd: dict[int, str] = {}
        for name, child in self.children.items():
            for fd in (child.pidfd, child.stderr):
                if fd >= 0:
                    poll.register(fd, select.POLLIN)
                    by_fd[fd] = name
        for fd, _ in poll.poll():
            name = by_fd.get(fd, "")
            if fd == self.platform.fileno():
                if not self._order():
                    return False
            elif name in self.children and fd == self.children[name].stderr:
                self.children[name].read_words()
            elif name in self.children:
                self._bury(name)
        return True

    def _bury(self, name: str) -> None:
        child = self.children.pop(name)
        _, status = os.waitpid(child.pid, 0)
        child.last_words()
        os.close(child.pidfd)
        if child.guardian >= 0:
            os.close(child.guardian)
        self._uids.discard(child.uid)
        if child.scratch >= 0:
            self._scratches[name] = child.scratch
        for directory, users in list(self._aside.items()):
            users.discard(name)
            if not users:
                del self._aside[directory]
                with contextlib.suppress(OSError):
                    unpacking.remove(directory)
        self._say(
            {
                "event": "exited",
                "id": name,
                "status": os.waitstatus_to_exitcode(status),
                "words": child.words.decode("utf-8", "replace"),
            }
        )

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.platform.send(json.dumps(message).encode())

    def _order(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(
            self.platform, MAX_ORDER, ORDER_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return False
        try:
            order = json.loads(data)
            handlers = {
                "hold": self._hold,
                "drop": self._drop,
                "launch": self._launch,
                "check": self._check,
                "kill": self._kill,
                "free": self._free,
            }
            answer = handlers[order["op"]](order, descriptors)
        except _FAILURES as error:
            answer = _describe_failure(error)
        finally:
            for fd in descriptors:
                os.close(fd)
        self._say({"event": "answer", **answer})
        return True

    def _hold(self, order: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Unpack a measured layer from the platform's sealed memory file."""
        digest, index_size = bytes.fromhex(order["digest"]).hex(), int(order["index_size"])
        final, partial = self.layers / digest, self.layers / f"{digest}.new"
        blob = descriptors[0]
        entries = json.loads(os.pread(blob, index_size, int(order["index_at"])))
        self._files[digest] = tuple(
            remeasure.File(each["path"], each["sha256"], int(each["size"])) for each in entries
        )
        if final.is_dir():  # the base layer, on which the platform runs
            return {}
        try:
            if order["data_at"] is None and any(each["size"] for each in entries):
                raise OSError("layer: it changed where it was unpacked, and its data did not come: try again")
            unpacking.unpack(partial, entries, blob, int(order["data_at"] or 0))
            partial.rename(final)
        except BaseException:  # nobody counts what is left of it, and the memory is for all users
            shutil.rmtree(partial, ignore_errors=True)
            self._forget(digest)
            raise
        return {}

    def _drop(self, order: dict[str, Any], _descriptors: list[int]) -> dict[str, Any]:
        """Delete a layer that no enclave uses."""
        digest = bytes.fromhex(order["digest"]).hex()
        self._forget(digest)
        if digest != native.runtime().digest:  # the platform itself runs on its base layer
            unpacking.remove(self.layers / digest)
        return {}

    def _forget(self, digest: str) -> None:
        self._files.pop(digest, None)
        for key in [key for key in self._watched if key[0] == digest]:
            del self._watched[key]

    def _find_changed(self, mounts: list[list[str]]) -> dict[str, Any] | None:
        """Measure the files of a launch; a changed layer is set aside, because enclaves may run from it."""
        if remeasure.digest(self._guardian) != self._guardian_digest:
            return {"changed": "kluis-guardian", "layer": ""}
        for digest, mount in mounts:
            if digest not in self._files:  # another launch that held the layer has found it changed
                return {"changed": mount, "layer": digest}
            if (digest, mount) not in self._watched:
                self._watched[digest, mount] = remeasure.select_files(
                    self.layers / digest, mount, self._files[digest]
                )
        change = remeasure.find_change([self._watched[digest, mount] for digest, mount in mounts])
        if change is None:
            return None
        directory, path = change
        self._forget(directory.name)
        aside = directory.with_name(f"{directory.name}.changed-{time.monotonic_ns()}")
        directory.rename(aside)
        if directory.name != native.runtime().digest:  # the platform itself runs on its base layer
            self._aside[aside] = set(self.children)
        return {"changed": path, "layer": directory.name}

    def _launch(self, order: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        try:
            info = self._begin(order, descriptors)
        except _FAILURES as error:
            return _describe_failure(error)
        # While the sandbox starts: until this launch is answered, nothing talks to the process.
        try:
            changed = self._find_changed(order["layers"])
        except _FAILURES as error:
            changed = _describe_failure(error)
        try:
            answer = self._find_started(self.children[order["id"]], info)
        except _FAILURES as error:
            answer = _describe_failure(error)
        answer = changed or answer
        # An enclave whose launch was answered with an error is not counted, so it is ended.
        if "guardian" not in answer and (child := self.children.get(order["id"])):
            child.kill()
        return answer

    def _begin(self, order: dict[str, Any], descriptors: list[int]) -> int:
        """Start bubblewrap; return the pipe on which it reports the process it made."""
        uid = self._free_uid() if self.own_uids else 0
        walls = sandbox.Walls(
            mounts=tuple((self.layers / bytes.fromhex(d).hex(), mount) for d, mount in order["layers"]),
            paths=tuple(order["paths"]),
            heap_bytes=int(order["heap"]),
            region_bytes=int(order["region"]),
            threads=int(order["threads"]),
            without=order["without"],
            options=order["options"],
            environment=tuple((name, value) for name, value in order["environment"]),
            uid=uid,
        )
        info_read, info_write = os.pipe()
        err_read, err_write = os.pipe()
        line = sandbox.command(walls, bwrap=self.bwrap, guardian=self._guardian, info_fd=INFO_FD)
        # Sources first move above every target; otherwise one dup2 would overwrite the next one's source.
        sources = [linux.move_high(fd) for fd in (*descriptors, err_write, info_write)]
        inside = sandbox.inside_descriptors(len(descriptors), scratch="s" in order["options"])
        targets = (*inside, 2, INFO_FD)
        null = os.open("/dev/null", os.O_RDWR)
        try:
            actions: list[Any] = [
                (os.POSIX_SPAWN_DUP2, fd, at) for fd, at in zip(sources, targets, strict=True)
            ]
            actions += [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
            pid = os.posix_spawn(self.bwrap, line, {}, file_actions=actions)
        except BaseException:
            os.close(info_read)
            os.close(err_read)
            raise
        finally:
            for fd in (*sources, null, err_write, info_write):
                os.close(fd)
        python = next((directory for directory, mount in walls.mounts if mount == native.PYTHON), Path())
        try:
            guarded = "guardian" not in order["without"].split(",")
            child = children.Child(pid, err_read, uid, python / manifest.LAUNCHER, guarded=guarded)
        except BaseException:  # nothing would wait for it
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(info_read)
            os.close(err_read)
            raise
        self._uids.add(uid)
        self.children[order["id"]] = child
        if "s" in order["options"]:
            child.scratch = scratch.watch(descriptors[inside.index(sandbox.SCRATCH_FD)])
        return info_read

    def _find_started(self, child: children.Child, info: int) -> dict[str, Any]:
        """What bubblewrap started: the guardian, and the enclave."""
        guardian = children.guardian_pid(info)
        with contextlib.suppress(ProcessLookupError):
            child.guardian = os.pidfd_open(guardian) if guardian else -1
        if not guardian:
            return {"error": child.explain_loss()}
        child.await_enclave(guardian)
        return {"guardian": guardian, "enclave": child.enclave, "uid": child.uid}

    def _check(self, order: dict[str, Any], _descriptors: list[int]) -> dict[str, Any]:
        """Check that an enclave is its guardian's and executes its layer's launcher; otherwise end it.

        The kernel may be configured to execute another program (binfmt_misc), or root may have mounted one
        over the launcher. The guardian lets the enclave execute only one program, so it cannot have executed
        another before. Root may also have ended it, and given its pid to another process.
        """
        child = self.children[order["id"]]
        if child.guarded and not child.is_guarded():
            child.kill()
            raise AuthenticityError("the enclave is not its guardian's")
        if not child.executes_launcher():
            child.words += OTHER_PROGRAM
            child.kill()
            raise AuthenticityError("the enclave does not execute the launcher")
        return {}

    def _kill(self, order: dict[str, Any], _descriptors: list[int]) -> dict[str, Any]:
        if child := self.children.get(order["id"]):
            child.kill()
        return {}

    def _free(self, order: dict[str, Any], _descriptors: list[int]) -> dict[str, Any]:
        """Whether an enclave has ended, and nobody has its scratch open."""
        name = order["id"]
        free = name not in self.children and (
            name not in self._scratches or scratch.is_free(self._scratches[name])
        )
        if free and name in self._scratches:
            os.close(self._scratches.pop(name))
        return {"free": free}

    def _free_uid(self) -> int:
        uid = sandbox.ENCLAVE_UIDS
        while uid in self._uids:
            uid += 1
        return uid


def _describe_failure(error: Exception) -> dict[str, Any]:
    return {"error": f"{type(error).__name__}: {error}"}
