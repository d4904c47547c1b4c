"""These tests need several rooms: the harness with a table, the peers of two lanes, the README and its results."""
