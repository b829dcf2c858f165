"""Judging over HTTP: one process, one event loop, a pool that decodes and one thread that judges."""
