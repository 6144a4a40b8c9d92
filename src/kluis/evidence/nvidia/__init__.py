"""NVIDIA's GPUs and switches. Their evidence is only used together with a processor's."""
