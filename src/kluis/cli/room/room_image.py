"""Measure the image whose code a room runs, for the party that proposes it and for those that sign."""

from __future__ import annotations

from pathlib import Path

from kluis.cleanroom.agreement.agreement import Agreement
from kluis.errors import PolicyError
from kluis.tee.image.build import recompiled
from kluis.tee.measure import image as measure


def measure_signed(image: Path) -> tuple[measure.Measured, bytes]:
    """The measurement of a signed image that is not for debug, and its signer, 32 bytes.

    Raises:
        PolicyError: it is not signed, is for debug, or has bytecode that is not compared with its source.
        KluisError: it is not an image.
    """
    measured = measure.measure(image)
    if measured.mrsigner is None or measured.debug:
        raise PolicyError("image: want it signed and not for debug", hint="kluis build DIR -o FILE --key PEM")
    if not measured.bytecode:
        python, release = measured.image.manifest.python, measured.image.manifest.kluis
        raise PolicyError(
            f"image: its bytecode was not compared with its source: want Python {python} here,"
            f" got {recompiled.version()}",
            hint=f"in an environment of Python {'.'.join(python.split('.')[:2])}: pip install"
            f" 'kluis[rooms]=={release}', and propose from there; or build the image again here:"
            " kluis build DIR -o FILE --key PEM",
            code="bytecode_uncompared",
        )
    return measured, measured.mrsigner


def require(image: Path, agreement: Agreement) -> None:
    """Refuse an agreement on other code than an image that its signer built or inspected.

    Its id covers the code and not the signature, so that each party can build it with its own key.

    Raises:
        PolicyError: the agreement names other code, or as :func:`measure_signed`.
        KluisError: it is not an image.
    """
    measured, _ = measure_signed(image)
    if measured.image_id.hex() != agreement.code.image_id:
        raise PolicyError(
            f"{image}: want image {agreement.code.image_id[:16]}.., which is proposed, "
            f"got {measured.image_id.hex()[:16]}..",
            hint="build it from the same folder, with the same Kluis and Python, or sign nothing",
            code="image",
        )
