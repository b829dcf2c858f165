"""Half precision: which parts of a graph are narrowed, and the probe that decides it."""
