"""What a compiler is, and those of the CPU's backends; `glass_engines.registry` is the table of all."""
