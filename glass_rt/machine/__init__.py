"""The machine: its cores, memory, GPUs and folders, and how the process uses them."""
