"""Benchmarks of shipper and of the usual alternatives to it: `tests/benchmarks/run`."""
