"""How often an engine is right: evaluation on labelled images, metrics and drift."""
