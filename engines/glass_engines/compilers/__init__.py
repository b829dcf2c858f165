"""One compiler per backend of the CPU, and the table of all of them."""
