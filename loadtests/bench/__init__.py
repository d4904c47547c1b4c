"""Benchmarks of the lanes: small C tools make the load, Python starts the servers and writes the tables."""
