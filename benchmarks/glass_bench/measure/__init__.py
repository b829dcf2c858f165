"""Measuring: contenders in processes of their own, driven in turn, recorded raw."""
