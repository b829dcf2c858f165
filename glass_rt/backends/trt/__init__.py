"""The TensorRT backend, for both of NVIDIA's libraries: `tensorrt` and `tensorrt_rtx`."""
