"""Stage 2: a portable model becomes an engine bundle for one machine."""
