"""What two ends of attested TLS say: the same bytes, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kluis.errors import FormatError
from kluis.formats.kluis.attested_tls import Answer, Binding, Question, Role

NONCE = bytes(range(32))
KINDS = (Binding, Question, Answer)
MADE = (
    Binding(Role.SERVER, NONCE).encode(),
    Binding(Role.CLIENT, NONCE).encode(),
    Question(NONCE).encode(),
    Answer(b"quote", b"{}", b"{}", NONCE).encode(),
    Answer(b"quote", b"{}", b"{}").encode(),
)
TINY = b'{"exporter":"00","role":"server","version":1}'
RELAY = MADE[0].replace(b"server", b"relay")
SHORT = MADE[4].replace(b'"challenge":""', b'"challenge":"AAAA"')


def test_written_and_read() -> None:
    """What is written is read as it was."""
    assert Binding.parse(MADE[0]) == Binding(Role.SERVER, NONCE)
    assert Question.parse(MADE[2]) == Question(NONCE)
    assert Answer.parse(MADE[3]) == Answer(b"quote", b"{}", b"{}", NONCE)
    assert MADE[0] == b'{"exporter":"' + NONCE.hex().encode() + b'","role":"server","version":1}'


@given(st.sampled_from(MADE), st.integers(0, 400), st.binary(max_size=3), st.sampled_from(KINDS))
def test_same_bytes_or_refused(made: bytes, at: int, put: bytes, kind: type[Binding]) -> None:
    """Whatever parses writes back to the same bytes; only our errors escape."""
    data = made[:at] + put + made[at + len(put) :]
    try:
        parsed = kind.parse(data)
    except FormatError:
        return
    assert parsed.encode() == data


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (Binding, TINY, "channel binding.exporter: want 32 bytes, got 1"),
        (Binding, RELAY, "channel binding.role: want client or server, got 'relay'"),
        (Question, b'{"nonce":"AAAA","version":1}', "evidence question.nonce: want 32 bytes, got 3"),
        (Answer, SHORT, "evidence answer.challenge: want 32 bytes, got 3"),
        (Question, b'{"nonce":"' + b"A" * 2000 + b'","version":1}', None),
    ],
)  # fmt: skip
def test_refused(kind: type[Question], data: bytes, message: str | None) -> None:
    """Bounds are held, and named."""
    with pytest.raises(FormatError) as caught:
        kind.parse(data)
    assert message is None or caught.value.message == message


def test_out_of_bounds_is_not_written() -> None:
    """What no reader takes is not written."""
    with pytest.raises(FormatError, match="must be at most"):
        Answer(bytes(300_000), b"", b"").encode()
    with pytest.raises(FormatError, match="want 32 bytes, got 3"):
        Binding(Role.CLIENT, b"abc").encode()
