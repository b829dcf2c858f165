"""The end of a run: bundle, evaluation on the test split, card."""
