"""The keyvault service, as its image starts it."""

from kluis.services.keyvault.inside import app as app
