"""Texts of this folder's README.md about measurements that `bench.json` does not hold."""

from __future__ import annotations

QUIET = """\
## A shipper process with little to do

`python -m tests.benchmarks.quiet 20`: two backends on this machine, for 20 s idle and for 20 s at 100 records/s.
Processor time is that of all threads of the shipper process (`schedstat`), wake-ups are their voluntary context
switches; both are medians of the seconds. "The requests alone" is a process of two threads that sends as many requests
of the same size over open connections, with the bodies ready. First, each thread looked for work every 20 to 1000 ms,
and `flush()` read `status.json` every 5 ms. Before, intake rested 4 ms after each splice and the main thread 20 ms
after each round, now 20 ms (less where the pipe is small, not while a flush waits) and 50 ms; and the journal's folder
was listed at nearly every read, because it had just been touched. The columns "before" and "now" were measured at the
same time, on 2 cores shared with other work.

| | first | before | now | target |
|---|---:|---:|---:|---:|
| idle: processor | 0.75 % | 0.10 % | 0.10 % | ≤ 0.1 % |
| idle: wake-ups | 35.4 /s | 1.0 /s | 1.0 /s | ≤ 1 /s |
| 100 records/s: processor | 7.4 % | 7.0 % | 5.7 % | |
| ... the requests alone | | 0.8 % | 0.8 % | |
| ... beyond the requests | | 6.2 % | 4.8 % | ≤ 5 % |
| 100 records/s: wake-ups | 535 /s | 485 /s | 266 /s | |
| flush() of one record, median | 31 ms | 8 ms | 8 ms | |
| flush() of one record, 90th percentile | 41 ms | 15 ms | 15 ms | |
"""
"""Measured on 2 cores shared with other work, so the absolute numbers are high."""
