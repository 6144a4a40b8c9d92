"""NVIDIA's GPUs and switches. Their evidence never stands alone: a processor's stands beside it."""
