"""A host that sends anything on both sockets of a running enclave is answered or refused, and never obeyed.

The enclaves here are rehearsals, since it is the runtime's own parsing that is attacked; the process
TEE runs the same bytes.
"""

from __future__ import annotations

import fcntl
import gc
import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kluis.enclave import Table
from kluis.enclave.boundary import frames, memfile
from kluis.testing.evil_host import EvilHost
from kluis.testing.plugin import enclave, evil_host, other_platform, rehearsal_platform

__all__ = ["enclave", "evil_host", "other_platform", "rehearsal_platform"]

Attack = Callable[..., EvilHost]
SUBJECT = Path(__file__).parents[1] / "enclave" / "subject" / "app.py"
TABLE = Table({"a": [1, 2, 3]})


@pytest.fixture
def host(evil_host: Attack) -> EvilHost:
    """A host that sends anything to the subject."""
    return evil_host(SUBJECT)


def answers(host: EvilHost, call: int = 1 << 40) -> None:
    """The enclave still makes an honest call, and nothing else is in the way of its answer."""
    host.say(frames.encode((host.number("add"), call, 2, 3)))
    heard = host.hear()
    while heard is not None and heard[1] != call:
        heard = host.hear()
    assert heard == [frames.RETURN, call, 5]


def heeded(host: EvilHost, call: int = 1 << 41) -> None:
    """All that was whispered so far has been looked at: the enclave takes one after the other."""
    host.whisper(frames.encode((host.number("add"), call, 2, 3)))
    assert host.hear() == [frames.RETURN, call, 5]


def refused(heard: list[Any] | None, kind: str, message: str) -> None:
    """An answer has this message, and no other content."""
    assert heard is not None
    assert heard[0] == frames.RAISED
    assert (heard[2], heard[3], heard[4]) == (kind, message, None)


FRAMES: dict[str, tuple[bytes, str]] = {
    "no frame": (b"\xc0", "call: want array, got None"),
    "an empty array": (b"\x90", "call: want array of at least length 2, got 0"),
    "no number": (frames.encode(("add", 1, 2, 3)), "call.kind: want int, got str"),
    "a float": (frames.encode((0.5, 1)), "call.kind: want int, got float"),
    "cut short": (frames.encode((0, 1))[:2], "call: input data was truncated"),
    "bytes after the end": (
        frames.encode((0, 1)) + b"\x00",
        "call: messagePack data is malformed: trailing characters",
    ),
    "an unknown number": (frames.encode((999, 1)), "call: want an ecall 0..{last}, got 999"),
    "an ocall's number": (frames.encode((-1, 1)), "call: want an ecall 0..{last}, got -1"),
    "a call id of zero": (frames.encode((0, 0)), "call: want an id that no call has, got 0"),
    "a negative id": (frames.encode((0, -5)), "call: want an id that no call has, got -5"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_malformed(host: EvilHost, case: str) -> None:
    """What is no call is answered by saying so, and the next call is made."""
    data, message = FRAMES[case]
    host.say(data)
    heard = host.hear()
    assert heard is not None
    assert heard[:3] == [frames.RAISED, heard[1], "FormatError"]
    expected = message.format(last=len(host.interface.ecalls) - 1)
    assert heard[3].partition(" (")[0] == expected
    answers(host)


def test_wrong_types(host: EvilHost) -> None:
    """An argument of another type reaches no function."""
    add = host.number("add")
    for items, message in (
        ((add, 1, "2", 3), "add.a: want int, got str"),
        ((add, 1, 2), "add: want 2 values, got fewer"),
        ((add, 1, 2, 3, 4), "add: want 2 values, got more"),
        ((add, 1, 2**63, 3), "add.a: want int, got uint"),
        ((add, 1, {"__class__": "os.system"}, 3), "add.a: want int, got object"),
    ):
        host.say(frames.encode(items))
        heard = host.hear()
        if items[2] == 2**63:  # a Python int holds it
            assert heard == [frames.RETURN, 1, 2**63 + 3]
        else:
            refused(heard, "FormatError", message)
    answers(host)


def test_too_large_for_a_frame(host: EvilHost) -> None:
    """A datagram past the bound is cut by the kernel, and refused for it."""
    host.calls.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    host.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    large = frames.encode((host.number("echo"), 1, bytes(frames.INLINE + 10)))
    host.say(large)
    refused(host.hear(), "FormatError", "call: input data was truncated")
    host.whisper(large)
    refused(host.hear(), "LostFrame", f"frame: is more than {frames.INLINE} bytes")
    answers(host)


@pytest.mark.parametrize("depth", [1_000, 100_000, 3_000_000])
def test_deep_nesting(host: EvilHost, depth: int) -> None:
    """Nesting that no interpreter follows is refused, in a frame and in a memory file."""
    people = host.number("people")
    frame = b"\x95" + frames.encode(people) + b"\x01" + b"\x91\x81\xa7friends" * depth
    if len(frame) <= frames.INLINE:
        host.say(frame)
    else:
        file = memfile.of_bytes(frame)
        host.whisper(frames.LARGE, [file])
        os.close(file)
    heard = host.hear(30)
    assert heard is not None
    assert heard[:2] == [frames.RAISED, 0]
    assert heard[2] in {"FormatError", "LostFrame"}
    answers(host)


def test_deep_nesting_where_nothing_is_wanted(host: EvilHost) -> None:
    """Deep nesting is refused in an item that is not declared, too."""
    host.say(b"\x93" + frames.encode(host.number("nothing")) + b"\x01" + b"\x91" * 60_000)
    heard = host.hear()
    assert heard is not None
    assert heard[:3] == [frames.RAISED, 0, "FormatError"]
    answers(host)


def test_unsealed_memory_file(host: EvilHost) -> None:
    """A body or a table whose file can still be changed is not looked at."""
    for files, frame in (
        ([os.memfd_create("body", os.MFD_ALLOW_SEALING)], frames.LARGE),
        ([os.memfd_create("table", os.MFD_ALLOW_SEALING)], frames.encode((host.number("rows"), 1, 0))),
    ):
        os.write(files[0], b"x" * 100)
        host.whisper(frame, files)
        os.close(files[0])
        heard = host.hear()
        assert heard is not None
        assert heard[2] in {"FormatError", "LostFrame"}
        assert "want seals 0b1111, got 0b0" in heard[3]
    answers(host)


def stream(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("seals", [fcntl.F_SEAL_WRITE, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW])
def test_table_that_could_be_cut(host: EvilHost, seals: int) -> None:
    """A table file that can still be truncated would kill its reader: it is refused before it is mapped."""
    file = os.memfd_create("table", os.MFD_ALLOW_SEALING)
    os.write(file, stream(TABLE.arrow))
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    host.whisper(frames.encode((host.number("rows"), 1, 0)), [file])
    heard = host.hear()
    os.ftruncate(file, 0)
    os.close(file)
    refused(heard, "FormatError", f"rows.table: want seals 0b1111, got {seals:#06b}")
    answers(host)


def test_table_changed_after_it_was_passed(host: EvilHost) -> None:
    """Once passed as it must be, no host can change or cut it: the kernel refuses the host."""
    file = memfile.of_table(TABLE)
    host.whisper(frames.encode((host.number("rows"), 1, 0)), [file])
    for change in (lambda: os.pwrite(file, b"x", 0), lambda: os.ftruncate(file, 8)):
        with pytest.raises(PermissionError):
            change()
    assert host.hear() == [frames.RETURN, 1, 3]
    os.close(file)
    answers(host)


def test_wrong_files(host: EvilHost) -> None:
    """Files too many, too few, where none belong, or of another kind are refused."""
    rows, add = host.number("rows"), host.number("add")
    pipe = os.pipe()
    table = memfile.of_table(TABLE)
    text = memfile.of_bytes(b"no arrow at all")
    cases: list[tuple[tuple[Any, ...], list[int], str]] = [
        ((rows, 1, 0), [], "rows: want 1 tables, got 0"),
        ((rows, 1, 0), [table, table], "rows: want 1 tables, got 2"),
        ((rows, 1, 1), [table], "rows.table: want file 0, got 1"),
        ((rows, 1, 0), [pipe[0]], "rows.table: want a memory file, got another descriptor"),
        ((rows, 1, 0), [text], "rows.table: ArrowInvalid: not a valid Arrow stream"),
        ((add, 1, 2, 3), [table], "add: want 0 tables, got 1"),
    ]
    for items, files, message in cases:
        host.whisper(frames.encode(items), files)
        refused(host.hear(), "FormatError", message)
    host.whisper(frames.encode((rows, 1, 0)), [table] * 17)
    refused(host.hear(), "LostFrame", "frame: want at most 16 files, got 17")
    host.whisper(frames.LARGE)
    refused(host.hear(), "LostFrame", "frame: its memory file is missing")
    for descriptor in (*pipe, table, text):
        os.close(descriptor)
    answers(host)


def test_descriptors_do_not_pile_up(host: EvilHost) -> None:
    """Whatever comes with a refused frame is closed: a host cannot use up the enclave's descriptors."""
    table = memfile.of_table(TABLE)
    folder = f"/proc/{host.process.pid}/fd"
    before = len(os.listdir(folder))
    for _ in range(300):
        host.whisper(frames.encode((host.number("add"), 1, "x", 3)), [table] * 4)
        assert host.hear() is not None
        host.whisper(b"\xc0", [table] * 4)
        assert host.hear() is not None
        host.whisper(frames.encode((frames.OCALL_RETURN, 77, 1)), [table])
    os.close(table)
    answers(host)
    heeded(host)
    gc.collect()
    assert len(os.listdir(folder)) <= before + 8


def ask(host: EvilHost, call: int = 1) -> int:
    """Have the enclave make an ocall, and give its id."""
    host.say(frames.encode((host.number("through"), call, 5)))
    heard = host.hear()
    assert heard is not None
    assert heard[0] == frames.FIRST_OCALL
    assert heard[2:] == [5]
    return int(heard[1])


def test_ocall_answered_twice(host: EvilHost) -> None:
    """The first answer counts, and the second reaches nothing: not this ocall, and not the next."""
    ocall = ask(host)
    host.whisper(frames.encode((frames.OCALL_RETURN, ocall, 10)))
    host.whisper(frames.encode((frames.OCALL_RETURN, ocall, 666)))
    assert host.hear() == [frames.RETURN, 1, 10]
    second = ask(host, 2)
    assert second != ocall
    host.whisper(frames.encode((frames.OCALL_RETURN, ocall, 666)))
    host.whisper(frames.encode((frames.OCALL_RETURN, second, 11)))
    assert host.hear() == [frames.RETURN, 2, 11]


def test_a_loop_that_is_flooded(host: EvilHost) -> None:
    """A loop that reads the host's answers takes each first one only, and keeps no descriptor and no frame.

    Before the true answers it gets answers with too many files, to calls that were never made, cancellations
    of such calls, and malformed frames; after them, the answers again.
    """
    call, together, held = 1, host.number("together"), []
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(frames.MAX_FILES + 1)]
    for round_ in range(30):
        call += 1
        host.say(frames.encode((together, call, 8)))
        asked = [host.hear() for _ in range(8)]
        assert all(one is not None and one[0] == frames.FIRST_OCALL for one in asked)
        for number in range(100):
            never = 1 << 40 | round_ << 10 | number
            host.whisper(frames.encode((frames.OCALL_RETURN, never, 666)), files[: number % 17])
            host.whisper(frames.encode((frames.CANCEL, never)))
        host.whisper(frames.encode((frames.OCALL_RETURN, asked[0][1], 666)), files)  # type: ignore[index] # asserted
        host.whisper(b"\xc1", files[:3])
        for _ in range(2):
            for one in asked:
                host.whisper(frames.encode((frames.OCALL_RETURN, one[1], 2 * one[2])))  # type: ignore[index]
        heard = [host.hear() for _ in range(3)]  # two refusals, and the result
        assert [one[:2] for one in heard if one and one[0] == frames.RETURN] == [[frames.RETURN, call]]
        assert [2 * number for number in range(8)] in [one[2] for one in heard if one]
        held.append((_descriptors(host), _resident(host)))
    for file in files:
        os.close(file)
    answers(host)
    assert held[-1][0] <= held[4][0]
    assert held[-1][1] <= held[4][1] + (8 << 20)


def _descriptors(host: EvilHost) -> int:
    return len(os.listdir(f"/proc/{host.process.pid}/fd"))


def _resident(host: EvilHost) -> int:
    return int(Path(f"/proc/{host.process.pid}/statm").read_text().split()[1]) * 4096


def test_ocall_answered_before_it_was_made(host: EvilHost) -> None:
    """An answer to no request is dropped."""
    for ocall in range(1, 50):
        host.whisper(frames.encode((frames.OCALL_RETURN, ocall, 666)))
    heeded(host)
    ocall = ask(host)
    host.whisper(frames.encode((frames.OCALL_RETURN, ocall, 10)))
    assert host.hear() == [frames.RETURN, 1, 10]


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((frames.OCALL_RETURN, "many"), "FormatError", "ask result: want int, got str"),
        ((frames.OCALL_RETURN, 1, 2), "FormatError", "ask result: want 1 values, got more"),
        ((frames.OCALL_RETURN,), "FormatError", "ask result: want 1 values, got fewer"),
        ((frames.OCALL_RAISED, "Name", "why"), "RemoteError", "Name: why"),
        ((frames.OCALL_RAISED, 5, "why"), "FormatError", "ocall ask[2]: want str, got int"),
    ],
)
def test_ocall_answered_wrongly(host: EvilHost, answer: tuple[Any, ...], kind: str, message: str) -> None:
    """An answer of another type is an error inside, and its call ends."""
    ocall = ask(host)
    host.whisper(frames.encode((answer[0], ocall, *answer[1:])))
    refused(host.hear(), kind, message)
    answers(host)


def test_ocall_answered_late(host: EvilHost) -> None:
    """After the declared time the call ends without the host, whose late answer is forgotten."""
    host.say(frames.encode((host.number("hurried"), 1)))
    heard = host.hear()
    assert heard is not None
    refused(host.hear(), "CallTimeout", "ocall hurry: no answer from the host in 0.3 s")
    host.whisper(frames.encode((frames.OCALL_RETURN, heard[1], 1)))
    answers(host)


def test_ocall_never_answered(host: EvilHost) -> None:
    """A host that never answers holds up its own call and no other, until it cancels or hangs up."""
    ask(host)
    host.whisper(frames.encode((host.number("add"), 2, 2, 3)))
    assert host.hear() == [frames.RETURN, 2, 5]
    host.whisper(frames.encode((frames.CANCEL, 1)))
    refused(host.hear(), "CallCancelled", "the host took the call back")
    ask(host, 3)
    host.calls.shutdown(socket.SHUT_RDWR)
    host.control.shutdown(socket.SHUT_RDWR)
    assert host.ends_within()


def test_undeclared_ocalls_do_not_exist(host: EvilHost) -> None:
    """The host cannot have an ocall made: frames of that shape are no calls."""
    for kind in range(frames.FIRST_OCALL, frames.FIRST_OCALL + 3):
        number = kind if kind >= len(host.interface.ecalls) else 1000 + kind
        host.say(frames.encode((number, 1, 5)))
        heard = host.hear()
        assert heard is not None
        assert heard[2] == "FormatError"
    answers(host)


def test_one_id_twice(host: EvilHost) -> None:
    """Two calls of one id do not get mixed up: the second is refused while the first runs."""
    ocall = ask(host, 5)
    host.whisper(frames.encode((host.number("add"), 5, 2, 3)))
    refused(host.hear(), "FormatError", "call: want an id that no call has, got 5")
    host.whisper(frames.encode((frames.OCALL_RETURN, ocall, 7)))
    assert host.hear() == [frames.RETURN, 5, 7]


def test_flood(host: EvilHost) -> None:
    """More calls than may wait are refused one by one; memory does not fill with them."""
    count = 400
    for call in range(1, count + 1):
        host.whisper(frames.encode((host.number("spin"), call, 0.001)))
    kinds = {frames.RETURN: 0, frames.RAISED: 0}
    for _ in range(count):
        heard = host.hear()
        assert heard is not None
        kinds[heard[0]] += 1
        if heard[0] == frames.RAISED:
            assert heard[3] == "too many calls wait"
    assert kinds[frames.RETURN] >= 256
    answers(host)


def test_cancels_what_it_never_called(host: EvilHost) -> None:
    """Cancelling at random stops nothing that runs."""
    for call in range(1000, 4000):
        host.whisper(frames.encode((frames.CANCEL, call)))
    answers(host)


def test_evidence_out_of_bounds(host: EvilHost) -> None:
    """A request for evidence is typed and bounded as a call is."""
    for items in ((frames.EVIDENCE, 1), (frames.EVIDENCE, 1, "n", b""), (frames.EVIDENCE, 1, bytes(65), b"")):
        host.say(frames.encode(items))
        heard = host.hear()
        assert heard is not None
        assert heard[2] == "FormatError"
    answers(host)


@pytest.mark.parametrize("socket_name", ["calls", "control"])
def test_hangs_up(host: EvilHost, socket_name: str) -> None:
    """When either socket closes, the enclave ends at once, whatever it does."""
    host.say(frames.encode((host.number("stubborn"), 1, 60.0)))
    host.whisper(frames.encode((host.number("spin"), 2, 60.0)))
    time.sleep(0.2)
    getattr(host, socket_name).close()
    if socket_name == "calls":  # its thread computes: the answer of another finds nobody
        host.whisper(frames.encode((host.number("add"), 3, 1, 2)))
    assert host.ends_within(300)


MUTATIONS = 10_000
# Ecalls that take their time, or ask the host before they answer.
SLOW = ("spin", "stubborn", "hurried", "through", "ahead", "shown", "exhaust")


def test_ten_thousand_mutations(host: EvilHost) -> None:
    """Good frames, each changed at random, get each one answer; after them all the enclave is well."""
    names = ("add", "echo", "people", "rows", "nothing", "liar", "leak", "through", "opened", "take")
    fast = [host.number(name) for name in names if name != "through"]
    good = [
        frames.encode((host.number("add"), 1, 2, 3)),
        frames.encode((host.number("echo"), 1, b"some bytes")),
        frames.encode(
            (host.number("people"), 1, [{"name": "a", "friends": [], "colour": 1}], {"x": 0.5}, "a")
        ),
        frames.encode((host.number("people"), 1, [], None, "b")),
        frames.encode((host.number("rows"), 1, 0)),
        frames.encode((host.number("take"), 1, b"KLUISEAL\x01" + bytes(80), b"")),
        frames.encode((frames.EVIDENCE, 1, b"nonce", b"data")),
    ]
    chance = random.Random(20)
    slow = {host.number(name) for name in SLOW}
    assert not slow & set(fast)
    made = 0
    while made < MUTATIONS:
        data = mutated(chance, chance.choice(good))
        if not data or (len(data) > 1 and data[1] in slow):
            continue
        host.say(data)
        heard = host.hear()
        assert heard is not None, data
        assert heard[0] in {frames.RETURN, frames.RAISED}
        assert "Jansen" not in str(heard)
        made += 1
    answers(host)


def test_mutations_on_the_control_socket(host: EvilHost) -> None:
    """So it is on the control socket, with descriptors that do not belong."""
    table = memfile.of_table(TABLE)
    good = [
        frames.encode((host.number("add"), 1, 2, 3)),
        frames.encode((host.number("rows"), 1, 0)),
        frames.encode((frames.OCALL_RETURN, 1, 5)),
        frames.encode((frames.OCALL_RAISED, 1, "Name", "why")),
        frames.encode((frames.CANCEL, 1)),
        frames.LARGE,
    ]
    slow = {host.number(name) for name in SLOW}
    chance = random.Random(21)
    for round_ in range(2_000):
        data = mutated(chance, chance.choice(good))
        if not data or (len(data) > 1 and data[1] in slow):
            continue
        host.whisper(data, [table] * chance.choice((0, 0, 1, 2)))
        if round_ % 20 == 0:
            answers(host, (1 << 40) + round_)
    os.close(table)
    answers(host)


def mutated(chance: random.Random, good: bytes) -> bytes:
    """A frame with one to four changes."""
    data = bytearray(good)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data)) if data else 0
        kind = chance.randrange(6)
        if kind <= 2 and data:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at] = chance.randbytes(chance.randint(1, 8))
        elif data:
            data[at] = chance.choice((0, 0x7F, 0x80, 0x90, 0xC0, 0xC1, 0xDC, 0xDD, 0xFF))
    return bytes(data)
