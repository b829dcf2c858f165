"""Building TensorRT engines: profiles, settings, the timing cache and the stream of weights."""
