"""The trust store: roots that a user trusts in addition to the vendors', each by a name and with its level.

It is a folder of the user's configuration, ``$KLUIS_CONFIG/trust`` or the platform's usual place. Nothing is
in it until ``kluis trust add`` puts it there. Its files are read only if nobody else can write them.
"""

from kluis.trust.store import TrustedRoot, add, anchors, folder, load, remove

__all__ = ["TrustedRoot", "add", "anchors", "folder", "load", "remove"]
