"""One unlocked service for all tests of this folder."""

from __future__ import annotations

from kluis.testing.plugin import other_platform, rehearsal_platform
from tests.clients.openai.serving import service

__all__ = ["other_platform", "rehearsal_platform", "service"]
