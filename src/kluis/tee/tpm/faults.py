"""Errors of a TPM, by response code, with the command that fixes each.

Spec: TCG "TPM 2.0 Library Part 2: Structures", "TPM_RC".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kluis.errors import UnavailableError

RETRY: Final = (0x908, 0x90A, 0x922)
"""The TPM yielded, tests itself, or requests that the command is sent again."""


class _Meaning(NamedTuple):
    words: str
    hint: str | None
    code: str


_LOCKOUT: Final = "tpm2_dictionarylockout --clear-lockout, or wait for its lockout interval"
_FULL: Final = "tpm2_getcap handles-nv-index lists its indices; tpm2_nvundefine removes one"
_MEANINGS: Final = {
    0x921: _Meaning("is locked after failed authorizations", _LOCKOUT, code="tpm_lockout"),
    0x14B: _Meaning("has no NV space left", _FULL, code="tpm_nv_full"),
    0x902: _Meaning(
        "has no memory left for an object", "tpm2_flushcontext --transient-object", code="tpm_memory"
    ),
    0x903: _Meaning(
        "has no memory left for a session", "tpm2_flushcontext --loaded-session", code="tpm_memory"
    ),
    0x14C: _Meaning("has that NV index already", "tpm2_nvreadpublic lists its indices", code="tpm_defined"),
    0x149: _Meaning("does not allow this access to the NV index", None, code="tpm_auth"),
    0x128: _Meaning("has PCRs that changed meanwhile", None, code="tpm_policy"),
    0x14A: _Meaning("has nothing in that NV index", None, code="tpm_unwritten"),
    0x143: _Meaning("does not have that command", None, code="tpm_command"),
    0x100: _Meaning("was not started by the firmware", "tpm2_startup --clear", code="tpm_startup"),
    0x920: _Meaning("limits how often it is written", "try again", code="tpm_busy"),
    0x101: _Meaning("failed its self-test", "reset the machine", code="tpm_failure"),
}
_FORMATTED: Final = {
    0x08B: _Meaning("has no object or NV index of that handle", None, code="tpm_handle"),
    0x08E: _Meaning("does not accept the authorization value", None, code="tpm_auth"),
    0x0A2: _Meaning("does not accept the authorization value", None, code="tpm_auth"),
    0x09D: _Meaning("has other PCR values than the policy names", None, code="tpm_policy"),
    0x09F: _Meaning("did not make this object", None, code="tpm_integrity"),
}


def fault(command: str, code: int) -> UnavailableError:
    """The error for a response code.

    Args:
        command: its name, for the message.
        code: not 0.
    """
    # Format 1 adds the number of the handle, parameter or session to the error.
    kind = _FORMATTED.get(code & 0x0BF) if code & 0x80 else _MEANINGS.get(code)
    if kind is None:
        return UnavailableError(f"TPM: {command}: response code {code:#x}", code="tpm")
    return UnavailableError(f"TPM: {command}: {kind.words} ({code:#x})", hint=kind.hint, code=kind.code)
