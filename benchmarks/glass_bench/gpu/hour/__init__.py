"""What the kit tries that needs none of NVIDIA's engine libraries, one module per step; see `glass_bench.gpu.steps`."""
