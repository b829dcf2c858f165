"""What `make demo` prints: two pictures that only GLASS tells apart, and the verdict of untrained weights as a number."""
