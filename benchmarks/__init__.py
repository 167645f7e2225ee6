"""Measures posix_shm beside C and its peers: ``python -m benchmarks``.  See README.md."""
