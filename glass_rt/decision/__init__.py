"""What a score means for a person: calibrations, tiers of input, labels. Plain facts in, plain facts out."""
