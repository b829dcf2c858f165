"""The claim, reproduced small: evidence that exists only at native resolution, and which models see it."""
