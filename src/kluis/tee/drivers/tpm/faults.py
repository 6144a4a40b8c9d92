"""Errors of a TPM, by response code, with the command that fixes each.

Spec: TCG "TPM 2.0 Library Part 2: Structures", "TPM_RC".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kluis.errors import UnavailableError

RETRY: Final = (0x908, 0x90A, 0x922)
"""The TPM yielded, tests itself, or requests that the command is sent again."""


class _Meaning(NamedTuple):
    code: str
    words: str
    hint: str | None


_LOCKOUT: Final = "tpm2_dictionarylockout --clear-lockout, or wait for its lockout interval"
_FULL: Final = "tpm2_getcap handles-nv-index lists its indices; tpm2_nvundefine removes one"
_MEANINGS: Final = {
    0x921: _Meaning("tpm_lockout", "is locked after failed authorizations", _LOCKOUT),
    0x14B: _Meaning("tpm_nv_full", "has no NV space left", _FULL),
    0x902: _Meaning("tpm_memory", "has no memory left for an object", "tpm2_flushcontext --transient-object"),
    0x903: _Meaning("tpm_memory", "has no memory left for a session", "tpm2_flushcontext --loaded-session"),
    0x14C: _Meaning("tpm_defined", "has that NV index already", "tpm2_nvreadpublic lists its indices"),
    0x149: _Meaning("tpm_auth", "does not allow this access to the NV index", None),
    0x128: _Meaning("tpm_policy", "has PCRs that changed meanwhile", None),
    0x14A: _Meaning("tpm_unwritten", "has nothing in that NV index", None),
    0x143: _Meaning("tpm_command", "does not have that command", None),
    0x100: _Meaning("tpm_startup", "was not started by the firmware", "tpm2_startup --clear"),
    0x101: _Meaning("tpm_failure", "failed its self-test", "reset the machine"),
}
_FORMATTED: Final = {
    0x08B: _Meaning("tpm_handle", "has no object or NV index of that handle", None),
    0x08E: _Meaning("tpm_auth", "does not accept the authorization value", None),
    0x0A2: _Meaning("tpm_auth", "does not accept the authorization value", None),
    0x09D: _Meaning("tpm_policy", "has other PCR values than the policy names", None),
    0x09F: _Meaning("tpm_integrity", "did not make this object", None),
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
