"""Every error that Kluis raises on purpose, in one tree, grouped by cause.

    KluisError
    |- UsageError             the request is invalid                                      exit 2
    |  `- MissingModuleError an import of a module that the image does not contain
    |- FormatError            the bytes are malformed                                     exit 3
    |  `- UnsupportedError    well formed, of an unsupported kind or version
    |- AuthenticityError      the signer is not trusted                                   exit 4
    |- FreshnessError         expired, not yet valid, replayed, or of another nonce       exit 5
    |- PolicyError            authentic, but rejected by the policy                       exit 6
    |- UnavailableError       this machine, or a service, cannot do it now                exit 7
    |- EnclaveError           a call into an enclave did not return                       exit 7
    |  |- EnclaveDied         the enclave ended, or was ended
    |  |- CallTimeout         no answer within the caller's timeout
    |  |- CallCancelled       the caller, or the host, cancelled the call
    |  `- RemoteError         the code inside raised; carries the type's name
    `- InternalError          a bug in Kluis                                              exit 70

A foreign exception that leaves a parser or a verifier is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

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

# Limit for a message: an error about very long input may quote all of it.
MOST_CHARACTERS: Final = 16 << 10
# Limit for foreign error text within our message.
MOST_FOREIGN: Final = 300
# How alike a misspelt word and the one that was meant are, 0..1: "nope" and "openai" are 0.6 alike.
NEAR: Final = 0.7
# Letters that render as blank, like a space: Hangul's fillers, Khmer's inherent vowels, Braille's blank.
_BLANK: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def foreign(text: str, most: int = MOST_FOREIGN) -> str:
    """Sanitize foreign text for use in an error message: bounded, one line, no control characters.

    Args:
        text: untrusted; each unprintable character becomes a question mark.
        most: number of characters to keep.
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
    near = difflib.get_close_matches(value[:32], known, 1, NEAR)
    meant = f"did you mean {near[0]}?" if near else hint
    return UsageError(f"{what}: want one of {', '.join(known)}, got {value[:32]!a}", hint=meant)


class KluisError(Exception):
    """The root of the tree: a sentence, a stable code, and how to fix it.

    Args:
        message: what was wrong, want and got; lower case, no period, no secret. The middle is left out if it
            exceeds 16,384 characters.
        hint: the command or change that fixes it, if one is known.
        code: a more specific snake_case code than the class's own.
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
            # tracebacks show notes, so that a script's user sees the hint, too
            self.add_note(f"hint: {hint}")
        if code is not None:
            self.code = code


class UsageError(KluisError):
    """The caller's request is invalid."""

    code = "usage"
    exit_code = 2
    http_status = 400


class MissingModuleError(UsageError, ModuleNotFoundError):
    """An import of a module that the image does not carry."""

    code = "module_missing"


class FormatError(KluisError):
    """The bytes are malformed."""

    code = "malformed"
    exit_code = 3
    http_status = 400


class UnsupportedError(FormatError):
    """Well formed, but of an unsupported kind or version."""

    code = "unsupported"


class AuthenticityError(KluisError):
    """The signer is not trusted."""

    code = "not_authentic"
    exit_code = 4
    http_status = 403


class FreshnessError(KluisError):
    """It is expired, not yet valid, replayed, or of another nonce."""

    code = "stale"
    exit_code = 5
    http_status = 403


class PolicyError(KluisError):
    """Authentic, but rejected by the policy."""

    code = "policy"
    exit_code = 6
    http_status = 403


class UnavailableError(KluisError):
    """This machine, or a service, cannot do it now."""

    code = "unavailable"
    exit_code = 7
    http_status = 503


class EnclaveError(KluisError):
    """A call into an enclave did not return."""

    code = "enclave"
    exit_code = 7
    http_status = 502


class EnclaveDied(EnclaveError):
    """The enclave ended, or was ended, before it answered."""

    code = "enclave_died"


class CallTimeout(EnclaveError):
    """No answer within the caller's timeout."""

    code = "call_timeout"
    http_status = 504


class CallCancelled(EnclaveError):
    """The caller, or the host, cancelled the call."""

    code = "call_cancelled"


class RemoteError(EnclaveError):
    """The code inside raised.

    Attributes:
        type_name: the class name of the exception inside.
        traceback: the traceback inside, only from a debug enclave; else None.
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
    """A bug in Kluis."""

    code = "internal"


BY_NAME: Final[dict[str, type[KluisError]]] = {
    kind.__name__: kind
    for kind in (
        UsageError, FormatError, UnsupportedError, AuthenticityError, FreshnessError, PolicyError,
        UnavailableError,
    )
}  # fmt: skip
"""Errors that another Kluis process may report, by name; raised here with the same text."""
