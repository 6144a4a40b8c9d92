"""Compare what a wrapper claims about its evidence with the verified evidence.

A wrapper is never trusted: the evidence is verified as if it were bare, and then compared.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Mapping
from typing import Final

from kluis.errors import AuthenticityError
from kluis.evidence.model import Claims, Tee, Wrapper
from kluis.evidence.verified import Verified, mint
from kluis.frozen import frozen

PUBLIC_KEY: Final = "public key"
CUSTOM_CLAIMS: Final = "custom claims"
EVENT_LOG: Final = "event log"
NONCE: Final = "nonce"
EAT_NONCE: Final = "nonce of an EAT"
REPORT_DATA: Final = "report data"
CONFIGURATION: Final = "configuration"
RUNTIME_DATA: Final = "runtime data"
LAUNCH: Final = "launch configuration"
FIXED: Final = frozenset({Tee.SGX, Tee.TDX, Tee.SNP, Tee.CCA})
FIELD_SIZE: Final = 64
_CODES: Final = {PUBLIC_KEY: "key_binding", RUNTIME_DATA: "runtime_data"}


@frozen(kw_only=True)
class Bound:
    """The values that the evidence must contain for the wrapper to be true.

    Attributes:
        what: the kind of the bound value.
        value: its bytes.
        report_data: accepted values, 64 bytes each; empty if not required.
        registers: required values, by name.
        nonce: required value; None if not required.
        challenge: accepted values of the nonce or the report data, exactly; empty if not required. The field
            of SGX, TDX, SNP and CCA (its challenge) is always 64 bytes: there the value is padded with zeros,
            so N and N with a zero after it are equal.
        host_data: required of a SEV-SNP report, 32 bytes; None if not required.
        config_id: required CONFIGID, 64 bytes; None if not required.
    """

    what: str
    value: bytes
    report_data: tuple[bytes, ...] = ()
    registers: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    nonce: bytes | None = None
    challenge: tuple[bytes, ...] = ()
    host_data: bytes | None = None
    config_id: bytes | None = None

    def check(self, claims: Claims, name: str) -> None:
        """Compare verified claims with it, in full length.

        Raises:
            AuthenticityError: they do not bind it.
        """
        if self.report_data and not any(
            hmac.compare_digest(want, claims.report_data) for want in self.report_data
        ):
            raise AuthenticityError(
                f"{name}: the evidence within binds another {self.what}: want report data "
                f"{self.report_data[0].hex()}, got {claims.report_data.hex() or 'none'}",
                code=_CODES.get(self.what, "report_data"),
            )
        for register, want in self.registers.items():
            got = claims.registers.get(register)
            if got is None or not hmac.compare_digest(want, got.value):
                raise AuthenticityError(
                    f"{name}: the {self.what} gives {register} {want.hex()}, got {got or 'none'}",
                    code="event_log",
                )
        if self.nonce is not None and not hmac.compare_digest(self.nonce, claims.nonce or b""):
            raise AuthenticityError(
                f"{name}: want nonce {self.nonce.hex()}, got {(claims.nonce or b'').hex() or 'none'}",
                code="nonce",
            )
        if self.host_data is not None:
            self._check_host_data(claims, name, self.host_data)
        if self.config_id is not None and not hmac.compare_digest(self.config_id, claims.config_id or b""):
            raise AuthenticityError(
                f"{name}: the evidence within binds another {self.what}: want CONFIGID"
                f" {self.config_id.hex()}, got {(claims.config_id or b'').hex() or 'none'}",
                code="launch_configuration",
            )
        if self.challenge and not self._answers_challenge(claims):
            raise AuthenticityError(
                f"{name}: the evidence within answers another {self.what}: want "
                f"{self.challenge[0].hex()} as its nonce or report data, got "
                f"{(claims.nonce or claims.report_data).hex() or 'none'}",
                code="nonce",
            )

    def _check_host_data(self, claims: Claims, name: str, want: bytes) -> None:
        from kluis.evidence.amd.claims import SnpClaims  # only for wrappers of one vendor

        got = claims.vendor.host_data if isinstance(claims.vendor, SnpClaims) else b""
        if not hmac.compare_digest(want, got):
            raise AuthenticityError(
                f"{name}: the evidence within binds another {self.what}: want host data {want.hex()}, "
                f"got {got.hex() or 'none'}",
                code="report_data",
            )

    def _answers_challenge(self, claims: Claims) -> bool:
        nonce = claims.nonce or b""
        pairs = [(want, got) for want in self.challenge for got in (nonce, claims.report_data)]
        # If the field has a fixed size, a shorter nonce is padded with zeros, without a length.
        if claims.tee in FIXED:
            field = nonce if claims.tee is Tee.CCA else claims.report_data
            pairs += [(want.ljust(FIELD_SIZE, b"\0"), field) for want in self.challenge]
        return any(hmac.compare_digest(want, got) for want, got in pairs)


@frozen
class Unwrapped:
    """Evidence without its wrapper.

    Attributes:
        name: of the wrapper, for messages.
        inner: the evidence.
        bounds: that it must bind; empty if the wrapper claims nothing.
        envelope: whether it may contain another wrapper.
    """

    name: str
    inner: bytes
    bounds: tuple[Bound, ...] = ()
    envelope: bool = False

    def check(self, verified: Verified[Claims]) -> Verified[Claims]:
        """Compare the verified claims of ``inner`` with the wrapper; return them with what was bound.

        Raises:
            AuthenticityError: they do not bind what the wrapper claims.
        """
        for bound in self.bounds:
            bound.check(verified.value, self.name)
        binds: dict[str, bytes] = {}
        # Nested envelopes may each bind a value of the same kind: none is left out.
        for what, value in dict.fromkeys((bound.what, bound.value) for bound in self.bounds):
            same = sum(name.partition(" (")[0] == what for name in binds)
            binds[f"{what} ({same + 1})" if same else what] = value
        return mint(dataclasses.replace(verified.value, wrapper=Wrapper(self.name, binds)))
