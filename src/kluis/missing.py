"""What an image does not carry: an import of it is refused, with the line that adds it to the image.

An image carries the modules that its application's imports reach. One that is loaded by a name made at run
time is not among them, unless ``kluis.toml`` names it.
"""

from __future__ import annotations

import sys

from kluis.errors import MissingModuleError

SPARED = ("cffi", "pycparser")
"""Libraries of the runtime's that an image carries only if something in it imports them; Kluis does not."""


class _Finder:
    """The last finder: it gets only modules that no other finder found."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Refuse a module of Kluis.

        Raises:
            MissingModuleError: names the module and the line.
        """
        if name.startswith("kluis.") or name in SPARED:
            raise MissingModuleError(
                f"{name}: is not in this image",
                hint=f'if there is such a module, add it in kluis.toml: modules = ["{name}"]',
                code="module_missing",
            )


def install() -> None:
    """From now on, report modules that an image does not have."""
    sys.meta_path.append(_Finder)
