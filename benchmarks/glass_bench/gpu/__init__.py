"""The GPU kit: what is checked and measured on a machine with an NVIDIA GPU."""
