"""Labelled images: folders and tables that say which images are fake, and what gives a label away."""
