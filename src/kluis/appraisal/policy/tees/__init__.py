"""Policy tables of the TEEs: one module for each, named like the TEE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from kluis.appraisal.policy.fields import Field
from kluis.evidence.model import Tee

_LATE: Final = (
    "kluis.appraisal.policy.tees.azure",
    "kluis.appraisal.policy.tees.cca",
    "kluis.appraisal.policy.tees.nitro",
    "kluis.appraisal.policy.tees.nvidia",
    "kluis.appraisal.policy.tees.sgx",
    "kluis.appraisal.policy.tees.snp",
    "kluis.appraisal.policy.tees.tdx",
    "kluis.appraisal.policy.tees.tpm",
)


class _Tables(Mapping[Tee, tuple[Field, ...]]):
    """Loads a TEE's table on first use, like its verifier."""

    def __getitem__(self, tee: Tee) -> tuple[Field, ...]:
        fields: tuple[Field, ...] = import_module(f"{__name__}.{Tee(tee).value}").FIELDS
        return fields

    def __iter__(self) -> Iterator[Tee]:
        return iter(Tee)

    def __len__(self) -> int:
        return len(Tee)


TABLES: Final[Mapping[Tee, tuple[Field, ...]]] = _Tables()
