"""The authors' way against ours, end to end."""
