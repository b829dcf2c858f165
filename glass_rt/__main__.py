"""`python -m glass_rt`, the same as the `glass-rt` command."""

from glass_rt.cli import main

main()
