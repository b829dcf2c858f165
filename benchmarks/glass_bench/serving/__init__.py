"""A server under load: clients in a process of their own, a server that judges nothing, and what came of it."""
