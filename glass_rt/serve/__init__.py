"""The server: one process, one event loop, a pool of threads that decode and one thread that judges."""
