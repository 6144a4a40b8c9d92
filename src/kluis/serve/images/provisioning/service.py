"""The provisioning service, as its image starts it."""

from kluis.services.provisioning.inside import app

__all__ = ["app"]
