"""The cores and the memory that this process was given, and a budget of bytes among its threads."""
