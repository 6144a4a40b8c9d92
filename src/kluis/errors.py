"""Every error that Kluis raises on purpose, in one tree, by whose fault it is.

    KluisError
    |- UsageError            the caller asked for something that cannot be meant        exit 2
    |- FormatError           the bytes are not what they should be                      exit 3
    |  `- UnsupportedError   well formed, of a kind or version that is not handled
    |- AuthenticityError     its signer is not trusted                             exit 4
    |- FreshnessError        it was true once: expired, replayed, not yet valid         exit 5
    |- PolicyError           authentic, but rejected by the policy                   exit 6
    |- UnavailableError      this machine, or a service, cannot do it now               exit 7
    |- EnclaveError          a call into an enclave did not return                   exit 7
    |  |- EnclaveDied        the enclave ended, or was ended
    |  |- CallTimeout        no answer within the time the caller gave
    |  |- CallCancelled      the caller, or the host, cancelled the call
    |  `- RemoteError        the code inside raised; carries the type's name
    `- InternalError         our bug                                                    exit 70

A foreign exception that leaves a parser or a verifier is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

# Of a message: what is wrong with very long input can be as long as it is.
__all__ = [
    "AuthenticityError",
    "CallCancelled",
    "CallTimeout",
    "EnclaveDied",
    "EnclaveError",
    "FormatError",
    "FreshnessError",
    "InternalError",
    "KluisError",
    "PolicyError",
    "RemoteError",
    "UnavailableError",
    "UnsupportedError",
    "UsageError",
]

MOST_CHARACTERS: Final = 16 << 10
# Of what somebody else says went wrong, within a message of ours.
MOST_FOREIGN: Final = 300
# Letters that show as nothing, as a space does: Hangul's fillers, Khmer's inherent vowels, Braille's blank.
_BLANK: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def foreign(text: str, most: int = MOST_FOREIGN) -> str:
    """Somebody else's words as a message of ours may carry them: bounded, on one line, obeyed by no terminal.

    Args:
        text: theirs; each character that is not shown becomes a question mark.
        most: how many of its characters are kept.
    """
    text = text[:most]
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign if sign.isprintable() and sign not in _BLANK else "?" for sign in text)


def unknown(what: str, value: str, choices: Iterable[str], hint: str | None = None) -> UsageError:
    """Describe a value that is not one of its choices.

    Args:
        what: the option or argument.
        value: as given; its first 32 characters are shown.
        choices: the values that it may have.
        hint: used if no choice is near; otherwise the hint names the nearest choice.
    """
    import difflib  # only an error needs it

    known = list(choices)
    near = difflib.get_close_matches(value[:32], known, 1)
    meant = f"did you mean {near[0]}?" if near else hint
    return UsageError(f"{what}: want one of {', '.join(known)}, got {value[:32]!a}", hint=meant)


class KluisError(Exception):
    """The root of the tree: a sentence, a stable code, and how to mend it.

    Args:
        message: what was wrong, want and got; lower case, no period, no secret. Past 16,384 characters
            its middle is left out.
        hint: the command or change that mends it, if one is known.
        code: a finer snake_case code than the class's own.
    """

    code: str = "error"
    exit_code: ClassVar[int] = 70
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        if len(message) > MOST_CHARACTERS:
            message = f"{message[: MOST_CHARACTERS // 2]} .. {message[-MOST_CHARACTERS // 4 :]}"
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint is not None:
            self.add_note(f"hint: {hint}")  # a traceback shows notes: a script's user is told, too
        if code is not None:
            self.code = code


class UsageError(KluisError):
    """The caller asked for something that cannot be meant."""

    code = "usage"
    exit_code = 2
    http_status = 400


class FormatError(KluisError):
    """The bytes are not what they should be."""

    code = "malformed"
    exit_code = 3
    http_status = 400


class UnsupportedError(FormatError):
    """Well formed, of a kind or version that is not handled."""

    code = "unsupported"


class AuthenticityError(KluisError):
    """Nobody we trust vouches for it."""

    code = "not_authentic"
    exit_code = 4
    http_status = 403


class FreshnessError(KluisError):
    """It was true once: expired, replayed, or not yet valid."""

    code = "stale"
    exit_code = 5
    http_status = 403


class PolicyError(KluisError):
    """Authentic, and not what the policy wants."""

    code = "policy"
    exit_code = 6
    http_status = 403


class UnavailableError(KluisError):
    """This machine, or a service, cannot do it now."""

    code = "unavailable"
    exit_code = 7
    http_status = 503


class EnclaveError(KluisError):
    """A call into an enclave did not come back."""

    code = "enclave"
    exit_code = 7
    http_status = 502


class EnclaveDied(EnclaveError):
    """The enclave ended, or was ended, before it answered."""

    code = "enclave_died"


class CallTimeout(EnclaveError):
    """No answer within the time the caller gave."""

    code = "call_timeout"
    http_status = 504


class CallCancelled(EnclaveError):
    """The caller, or the host, took the call back."""

    code = "call_cancelled"


class RemoteError(EnclaveError):
    """The code inside raised.

    Attributes:
        type_name: the exception's class name, as the code inside raised it.
        traceback: the traceback inside, from a debug enclave alone; else None.
        inner_code: the code of the error inside, if it is one of ours; else None.
    """

    code = "remote_error"
    inner_code: str | None = None

    def __init__(
        self, type_name: str, message: str, traceback: str | None = None, *, hint: str | None = None
    ) -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name, hint=hint)
        self.type_name = type_name
        self.traceback = traceback


class InternalError(KluisError):
    """Our bug."""

    code = "internal"


BY_NAME: Final[dict[str, type[KluisError]]] = {
    kind.__name__: kind
    for kind in (
        UsageError, FormatError, UnsupportedError, AuthenticityError, FreshnessError, PolicyError,
        UnavailableError,
    )
}  # fmt: skip
"""What another process of ours may have met, by the name that it tells: raised here with its words."""
