"""INT8 on the CPU: calibration images and quantisation."""
