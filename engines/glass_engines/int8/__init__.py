"""INT8: calibration images, quantisation, and what it costs."""
