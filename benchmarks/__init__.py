"""Benches: the same work done by us and by the usual way, in one run. `make bench` prints all of them as one table."""
