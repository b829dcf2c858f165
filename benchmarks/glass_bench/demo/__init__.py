"""What `make demo` prints: two pictures that only GLASS tells apart; untrained weights' verdict, as a number."""
