"""Entry point of the provisioning service in its image."""

from kluis.services.provisioning.inside import app

__all__ = ["app"]
