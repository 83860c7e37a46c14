"""What shipper costs and what it does, measured beside what a user would pick instead: `tests/benchmarks/run`."""
