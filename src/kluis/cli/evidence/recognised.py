"""Recognise what a user gave as evidence, and name the right command if it is something else."""

from __future__ import annotations

import re
from typing import Final

from kluis.errors import KluisError, UnsupportedError
from kluis.evidence.registry import Kind, kind_of


def known_kind(data: bytes) -> Kind:
    """The kind of evidence; a file of another known format is refused by that format's name.

    Raises:
        UnsupportedError: it is not evidence of any kind.
    """
    try:
        return kind_of(data)
    except UnsupportedError as error:
        if _POLICY.search(data):
            raise UnsupportedError(
                "evidence: is a policy",
                hint="pass only the evidence as the argument, and the policy in --policy",
                code="bad_magic",
            ) from None
        if (name := recognize_format(data)) is None:
            raise error from None
        raise UnsupportedError(
            f"evidence: is of kind {name!a}, which proves nothing by itself",
            hint=_ALONE.get(name, "kluis inspect shows its content; collateral goes in --collateral"),
            code="bad_magic",
        ) from None


_POLICY: Final = re.compile(rb"^version = [0-9]+\s.*^\[(?:accept|freshness)\]", re.DOTALL | re.MULTILINE)
_ALONE: Final = {
    "event log": "give the quote of the registers that it explains, and the log with --event-log",
    "IMA log": "give the quote of the register that it explains",
    "IMA text log": "give the quote of the register that it explains",
    "NVIDIA report": "give it with its certificates: --part report=FILE --part cert_chain=FILE",
    "TPM quote": "give it with its signature and its PCRs: "
    "--part tpm_quote=FILE --part tpm_signature=FILE --part pcrs=FILE",
    "TDREPORT": "only the processor that created it can check it: pass a quote instead",
}


def recognize_format(data: bytes) -> str | None:
    """The format of bytes according to all readers; None if no reader recognises them."""
    from kluis.evidence.sniff import sniff  # every reader

    try:
        return sniff(data).name
    except KluisError:
        return None
