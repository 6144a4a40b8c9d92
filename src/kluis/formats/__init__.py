"""Parse bytes into values and write them back. Nothing here verifies, reads the clock, or does I/O."""
