"""The claim, reproduced small: evidence that exists only at native resolution, and who sees it."""
