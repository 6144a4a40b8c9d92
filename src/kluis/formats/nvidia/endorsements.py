"""Endorsements of an NVIDIA report: responses of NVIDIA's OCSP service. Nothing here is verified.

Spec: RFC 6960, "OCSP Response"; the service is https://ocsp.ndis.nvidia.com.
"""

from __future__ import annotations

from typing import Final, Self

from kluis.errors import FormatError
from kluis.formats.encoding import b64, jcs
from kluis.formats.encoding.members import Members
from kluis.frozen import frozen

MAX_RESPONSES: Final = 8
MAX_SIZE: Final = 64 << 10
_WHAT: Final = "NVIDIA endorsements"


@frozen(kw_only=True)
class NvidiaEndorsements:
    """OCSP responses about the certificates of one chain.

    Attributes:
        ocsp: at most 8 responses, DER, at most 64 KiB each.
    """

    ocsp: tuple[bytes, ...]

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read ``{"ocsp":["base64", ...]}``.

        Raises:
            FormatError: another shape, or too large.
        """
        value = Members(jcs.loads(data, _WHAT), _WHAT)
        value.only(["ocsp"])
        responses = tuple(
            b64.decode(text, f"{_WHAT}.ocsp") for text in value.texts("ocsp", most=MAX_RESPONSES)
        )
        for response in responses:
            if len(response) > MAX_SIZE:
                raise FormatError(
                    f"{_WHAT}.ocsp: is {len(response)} bytes, must be at most {MAX_SIZE}", code="too_large"
                )
        return cls(ocsp=responses)

    def to_json(self) -> bytes:
        """Write it in canonical JSON."""
        return jcs.dumps({"ocsp": [b64.encode(response) for response in self.ocsp]})
