"""Machines: QEMU within walls, its guest's memory secret, its vTPM, and the process that keeps it running."""
