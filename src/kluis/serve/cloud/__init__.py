"""The local cloud: services that one user runs in the background, and finds again through a folder."""
