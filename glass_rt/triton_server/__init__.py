"""The former place of `glass_rt.serve.triton`, which models in Triton repositories written before import."""
