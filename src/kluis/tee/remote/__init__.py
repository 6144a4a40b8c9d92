"""A platform elsewhere: a machine's, reached over streams, as a backend of this host."""

from kluis.tee.remote.platform import Remote, RemotePlatform

__all__ = ["Remote", "RemotePlatform"]
