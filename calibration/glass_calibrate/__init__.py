"""Calibration: labelled images and an engine become a decision whose error rates are bounded."""
