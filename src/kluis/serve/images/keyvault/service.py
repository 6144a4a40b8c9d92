"""Entry point of the key service in its image."""

from kluis.services.keyvault.inside import app as app
