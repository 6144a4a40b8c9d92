"""NVIDIA GPU and switch structures, as the device writes them."""
