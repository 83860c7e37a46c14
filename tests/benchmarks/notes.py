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

CALLS = """\
## What a call costs, and why one harness says 1.37 and another 1.6 to 1.85

`tests/benchmarks/run --only pinned` gives the application a core of its own; nginx, the shipper process and what reads
from bare's pipe share the others; then the same without pinning. Both backends deliver, one event a request. It prints
for each contender the ratios to nothing, to bare, and to bare whose reader posts every record to two services. On
2 cores that others used too (load 7, so the longest calls are those of the scheduler: see "nothing"):

| µs | nothing | bare | bare and posted | shipper | ÷ nothing | ÷ bare | ÷ bare and posted |
|---|---:|---:|---:|---:|---:|---:|---:|
| pinned, 1,000 records/s: CPU a record | 39 | 57 | 49 | 69 | 1.76 | 1.21 | 1.40 |
| ... a call, mean | 17 | 39 | 32 | 50 | 3.02 | 1.28 | 1.58 |
| ... a call, p99 | 48 | 79 | 70 | 118 | 2.47 | 1.51 | 1.70 |
| pinned, burst of 100,000: CPU a record | 4.7 | 7.8 | | 13.0 | 2.78 | 1.65 | |
| ... the longest call | 15,000 | 69,000 | | 20,000 | 1.33 | 0.29 | |
| not pinned, 1,000 records/s: CPU a record | 43 | 52 | 47 | 73 | 1.67 | 1.40 | 1.55 |
| ... a call, mean | 24 | 39 | 32 | 55 | 2.24 | 1.42 | 1.70 |
| ... a call, p99 | 50 | 71 | 86 | 133 | 2.66 | 1.88 | 1.54 |
| not pinned, burst of 100,000: CPU a record | 4.8 | 8.0 | | 13.7 | 2.86 | 1.71 | |
| ... the longest call | 12,000 | 9,900 | | 52,000 | 4.30 | 5.25 | |

The harnesses agree in µs and differ in what they divide by:

* **What "nothing" was.** "CPU of the application" at 1,000 records/s is that of the whole loop, which sleeps until the
  next record is due. On the machine of the first table a turn of the loop with a handler that does nothing takes 88 µs,
  here 39 µs, of which the call is 17. shipper adds 33 µs there and 30 µs here: (88 + 33) / 88 = 1.37, and
  (39 + 30) / 39 = 1.76. By the time of the call alone, the same 33 µs are a ratio of 3.
* **Cold caches.** In a burst a call of shipper's costs 13 µs, at 1,000 a second 50 µs; nothing goes from 4.7 to 17 µs,
  bare from 8 to 39 µs. What ran in between has taken the caches, so each line of code and data counts three to five
  times; the ratios of the warm calls are about those of the cold ones.
* **Whom a write wakes.** Bare's `cat` sleeps at the pipe, so each of bare's writes wakes it: 7 µs more than where the
  reader is always busy. shipper's intake rests by time, so most writes wake nobody.
* **The splice** takes the pipe's lock some µs long, 50 times a second (250 before intake rested for 20 ms).

`python -m tests.benchmarks.floor` measures the parts of a call one by one, warm, without disturbance (the least of 100
rounds; with valgrind installed it counts the instructions of each part too):

| | ns | above bare |
|---|---:|---|
| a call: nothing | 4,128 | |
| a call: bare | 5,799 | |
| a call: shipper | 11,035 | + 5,200 |
| bare: its handler | 1,769 | |
| shipper: its handler | 6,661 | + 4,890 |
| ... the event's bytes | 4,395 | |
| ...... masks: may anything be secret? | 2,144 | + 2,144 |
| ...... message | 295 | as bare |
| ... the frame into the pipe | 1,833 | |
| ...... frame with number and checksum | 423 | + 423 |
| ......... of it the checksum | 287 | |
| ...... is this still the process? (fork) | 153 | + 153 |
| ...... is the number still our pipe? | 225 | + 225 |
| ...... write(2) | 365 | as bare |
| ...... mirror | 163 | + 163 |

What can't go while the promises stay: masks 2.1 µs (asked of every text; one with any of the signs `= : ' " - < %`
is asked for about 60 words, in less than 30 ns each, and for a card's number; a regular expression of all the words
takes as long), number, frame and checksum 0.42 µs, the questions whether this is still the process and the pipe that
were opened 0.38 µs, mirror 0.16 µs: together 3.1 µs. With bare's 5.8 µs that is **1.53 × bare, the floor** of a warm
call with these promises in Python. 1.10 × is not reachable: the masks alone make it 1.37 ×. What is above the floor,
2.1 µs, is the look whether a record is a usual one (its attributes, extras, bound fields, span), an event that has more
fields than bare's, and the calls of functions. The longest call of a burst is the scheduler's where others use the
cores: "nothing" has 12 to 15 ms in the same minute.

## From start() to the first event

`tests/benchmarks/run --only start`: a bare script calls `shipper.start()` with both backends and logs an error; the
time ends when a server on this machine has read the request that holds it. Nothing waits for a clock on this way.
What it takes is processor time, nearly all of it for imports, so it grows with other work on the machine:

| ms | least | median | target |
|---|---:|---:|---:|
| nothing before it in the run queue (`chrt -f 10`) | 152 | 162 | ≤ 250 |
| ... of it `start()` | 18 | 21 | |
| beside other work, load 8 on 2 cores | 219 | 273 | |
| CPU of the shipper process until then | 123 | 131 | |
| ... an interpreter with nothing imported | 15 | | |
| ... shipper's modules with the standard library's | 49 | | |
| ... urllib3 and http.client | 27 | | |
| ... requests | 16 | | |
| ... psutil | 8 | | |
| ... tenacity and the deliverer | 7 | | |
| ... the sender | 3 | | |

They stay imported before the first event: what is imported later is missing when a deployment has removed the files.
"""

BOTH = """\
## Two backends at once, in batches

`python -m tests.benchmarks.both 5 500000`: a backlog of 500,000 events to each backend, gzipped, next door; until the
last backend has everything, the start included. Medians of 5 rounds, in turn, on 2 cores:

| | events/s | against one alone |
|---|---:|---:|
| Trakerr alone, array | 74,272 | 0.90 × |
| jKool alone, lines | 91,207 | 1.10 × |
| both | 173,099 | 2.09 × |
| both, `Batching(processes=False)` | 87,401 | 1.06 × |

"Both" is more than twice one's: with encoder processes the interpreter of the shipper process only sends. One is ready
0.1 s after it was started. The largest took 21 MiB, with events of 2,500 bytes 24 MiB.
"""
