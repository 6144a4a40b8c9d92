"""A rehearsed enclave and a proxy to it, as the proxy's own tests have them."""

from tests.connect.conftest import judge, other_platform, proxy, rehearsal_platform, served

__all__ = ["judge", "other_platform", "proxy", "rehearsal_platform", "served"]
