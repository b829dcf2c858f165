"""The HTTP side of a server: connections, request limits, routes and responses."""
