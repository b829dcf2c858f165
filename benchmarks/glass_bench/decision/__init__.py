"""Calibration seen from outside: what its guarantee is worth on scores whose distribution is known."""
