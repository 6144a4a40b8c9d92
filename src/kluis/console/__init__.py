"""The console: pages for one user of this machine, served on loopback."""
