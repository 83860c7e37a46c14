"""A model of a shipper process without threads, which checks what has become of every event.

Real: journal, account, cursors with lanes, deliverers, dead letters, retention, a pipe. Injected: the clock, which
processes live, and the backends. A `Killed` that the clock raises ends the process at that place, as SIGKILL would.

What the model knows of an event is what its application knows: whether the call has returned, and what the backend got.
`World.check` compares that with what is on disk, as the next process would find it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import shutil
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from shipper.config.limits import Batching, Retry, Spooling
from shipper.delivery.dead.writer import DeadLetters
from shipper.delivery.deliverer import Deliverer
from shipper.delivery.lending.lending import Lending, PartEndedError
from shipper.delivery.lending.part import PartReader, Request
from shipper.errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from shipper.event.model import Event, EventId
from shipper.event.truncate import pack
from shipper.journal.account import Account
from shipper.journal.cursors.assembler import DEAD_WRITER
from shipper.journal.cursors.cursor import Cursor
from shipper.journal.cursors.cursor_files import begin_cursor
from shipper.journal.entry import DELIVERED, INCOMPLETE, QUOTA
from shipper.journal.history import History
from shipper.journal.kept import FREE_BYTES
from shipper.journal.segments import Position, segment_path, segments
from shipper.journal.writer import Writer
from shipper.process.ingest.appender import Appender
from shipper.process.ingest.quota import Quota, QuotaReachedError
from shipper.process.ingest.retention import Retention
from shipper.spool.layout import Spool
from shipper.transport import frame

from .journals import BEHIND_ALL

SEGMENT = 8192
KEPT_FOR_EVER = "1000d"
BACKLOG = 6000  # bytes: so small that errors overtake often
BATCHING = Batching(max_events=4, max_bytes=30_000, max_age=0.0)
ALL_AT_ONCE = 1 << 20

ANSWERS = (
    "accepts",
    "is down",
    "asks for a pause",
    "refuses the key",
    "refuses bad events",
    "refuses all",
    "is too small",
    "takes some",
    "cuts its answers",
)
"""What a backend may do with a batch."""


class Killed(BaseException):
    """The shipper process was killed here."""


@dataclass(eq=False)
class Sent:
    """An event that an application made."""

    id: EventId
    level: int
    route: tuple[str, ...] | None
    message: str
    frames: list[bytes]
    journaled: int = 0  # frames
    is_returned: bool = True  # the logging call; False when its process was killed in it
    is_damaged: bool = False

    @property
    def is_whole(self) -> bool:
        return self.journaled == len(self.frames)


@dataclass(eq=False)
class Application:
    """A process that logs: what it could not put into the pipe waits in its overflow, in order."""

    number: int
    token: bytes
    overflow: deque[tuple[Sent, bytes]] = field(default_factory=deque)
    events: int = 0

    @property
    def pid(self) -> int:
        return 1_000_000 + self.number


class ModelBackend:
    """A backend, and what it has got."""

    def __init__(self, name: str, *, level: int, max_events: int) -> None:
        self.name = name
        self.level = level
        self.max_events = max_events
        self.max_in_flight = 1
        self.got: Counter[EventId] = Counter()
        self.refused: set[EventId] = set()
        self.not_for_it: set[EventId] = set()  # events from before it was joined
        self.answer = "accepts"
        self.while_sending: Callable[[], None] = lambda: None
        self.next_try = 0.0
        self.lent = 0  # events that it got in requests which another process had encoded
        self.may_repeat: set[EventId] = set()  # got, and not passed by the saved cursor when the process ended

    def open(self, context: object) -> None: ...

    def close(self) -> None: ...

    def send(self, events: Sequence[Event]) -> list[DeliveryError | None]:
        self.while_sending()
        failure = _failure(self.answer)
        answers = [self._answer(number, event, failure) for number, event in enumerate(events)]
        for event, answer in zip(events, answers, strict=True):
            assert event.id is not None
            if answer is None or self.answer == "cuts its answers":
                self.got[event.id] += 1
                if answer is not None:
                    self.may_repeat.add(event.id)
            elif isinstance(answer, (RejectedError, TooLargeError)):
                self.refused.add(event.id)
        return answers

    def send_whole(self, headers: Mapping[str, str], body: bytes) -> DeliveryError | None:
        """A request that another process has encoded: all of its events are taken, or none."""
        self.while_sending()
        events: list[Event] = pickle.loads(body)
        failure = _failure(self.answer)
        is_taken = all(self._answer(number, event, failure) is None for number, event in enumerate(events))
        for event in events:
            assert event.id is not None
            if is_taken or self.answer == "cuts its answers":
                self.got[event.id] += 1
                self.lent += 1
                if not is_taken:
                    self.may_repeat.add(event.id)
        return None if is_taken else failure

    def _answer(self, number: int, event: Event, failure: DeliveryError) -> DeliveryError | None:
        takes = {
            "accepts": True,
            "refuses bad events": "bad" not in event.message,
            "is too small": len(event.message) < 3000,
            "takes some": number % 2 == 0,
        }.get(self.answer, False)
        return None if takes else failure


class ModelEncoder:
    """An encoder process: it reads the journal, and encodes up to three requests before they are asked for."""

    def __init__(self, folder: str, backend: ModelBackend, clock: Callable[[], float]) -> None:
        self.is_killed = False
        self.given: Request | None = None  # the last one that `next` has returned
        self._ahead: deque[Request] = deque()
        self._requests: Iterator[Request] = iter(())
        self._reader = PartReader(
            folder,
            lambda events: ({}, pickle.dumps(list(events))),
            name=backend.name,
            level=backend.level,
            takes_all=True,
            most_events=backend.max_events,
            max_bytes=BATCHING.max_bytes,
            clock=clock,
        )

    def lend(self, start: Position, end: Position) -> None:
        if self.is_killed:
            raise BrokenPipeError
        self._ahead.clear()
        self._requests = self._reader.read(start, end)

    def next(self, seconds: float) -> Request | None:
        if self.is_killed:
            raise EOFError
        while len(self._ahead) < 3 and (request := next(self._requests, None)) is not None:
            self._ahead.append(request)
        if not self._ahead:
            raise PartEndedError
        self.given = self._ahead.popleft()
        return self.given


def _failure(answer: str) -> DeliveryError:
    return {
        "asks for a pause": RetryableError("HTTP 429", status=429, retry_after=30.0),
        "refuses the key": UnauthorisedError("HTTP 401", status=401),
        "refuses bad events": RejectedError("HTTP 400", status=400),
        "refuses all": RejectedError("HTTP 404", status=404),
        "is too small": TooLargeError("HTTP 413", status=413),
    }.get(answer, RetryableError("HTTP 503", status=503))


class World:
    """One app. ``folder`` may be a small file system that `fill_disk` can fill."""

    def __init__(self, folder: Path, *, quota: int, when_full: str, keep: int | str = 0) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self._aside = Path(tempfile.mkdtemp())  # on another disk
        self.spool = Spool(str(self.folder))
        for each in (self.spool.journal, self.spool.cursors, self.spool.dead, self.spool.damaged):
            os.mkdir(each, 0o700)
        self.spooling = Spooling(quota=quota, when_full=when_full, segment=SEGMENT, keep=keep)
        self.now = 1000.0
        self.ticks_to_live = 0  # calls of the clock until the process is killed; 0: it is not
        self.pipe, self._end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.applications: list[Application] = []
        self.ended: list[Application] = []
        self.sent: dict[EventId, Sent] = {}
        self.backends = {
            "one": ModelBackend("one", level=20, max_events=1),
            "many": ModelBackend("many", level=0, max_events=3),
            "joined": ModelBackend("joined", level=30, max_events=1),
        }
        self.known = {"one", "many"}  # that have a cursor
        self.configured = {"one", "many"}
        self.journaled_bytes = 0
        self.journaled = 0  # events whose first frame is in the journal
        self._in_pipe: deque[tuple[Sent, int, int]] = deque()  # event, frame, bytes put into the pipe up to its end
        self._looked_at = self.now
        self._put = self._taken = 0  # bytes into the pipe, and out of it
        self.trouble = ""
        self.full = threading.Event()  # the journal has reached its quota
        self.account_may_forget = False  # on a full disk, segments are deleted although the account can't be saved
        for _ in range(3):
            self.start_application()
        for name in self.known:
            begin_cursor(self._cursor_path(name), self.spool.journal)
        self._start()

    # -- the process -------------------------------------------------------------------------------------------------

    def clock(self) -> float:
        if self.ticks_to_live:
            self.ticks_to_live -= 1
            if not self.ticks_to_live:
                raise Killed
        return self.now

    def _start(self) -> None:
        self.trouble = ""
        self.full.clear()
        self.ticks_to_live = 0
        self.account = Account(self.spool.ledger, self.spool.journal, self.spool.damaged)
        self.deliverers: dict[str, Deliverer] = {}
        self.encoders: dict[str, ModelEncoder] = {}
        cursors = {name: self._open_cursor(name) for name in sorted(self.configured)}
        newest = max([self.account.position.segment, *(cursor.position.segment for cursor in cursors.values())])
        writer = Writer(self.spool.journal, segment_bytes=SEGMENT, first=newest)
        self.appender = Appender(self.pipe, writer, Quota(self.spool.journal, self.spooling.quota))
        for name, cursor in cursors.items():
            self._open_deliverer(name, cursor)
        self.retention = Retention(self.spool, self.spooling, self.account, cast(Any, self), cast(Any, self))

    def _cursor_path(self, name: str) -> str:
        return os.path.join(self.spool.cursors, f"{name}.json")

    def _open_cursor(self, name: str) -> Cursor:
        cursor = self._cursor(self._cursor_path(name), name)
        if cursor.base < 0:
            self.account.follow(ALL_AT_ONCE)
            with contextlib.suppress(OSError):
                cursor.count_from(self.account.journaled + self.account.duplicates)
        return cursor

    def _cursor(self, path: str, name: str) -> Cursor:
        level = self.backends[name].level
        return Cursor(path, self.spool.journal, level=level, backlog=BACKLOG, clock=self.clock, gone=self._is_gone)

    def _is_gone(self, pid: int) -> bool:
        return any(each.pid == pid for each in self.ended) or all(each.pid != pid for each in self.applications)

    def _open_deliverer(self, name: str, cursor: Cursor) -> None:
        backend = self.backends[name]
        backend.next_try = self.now
        self.deliverers[name] = Deliverer(
            cursor,
            backend,
            DeadLetters(self.spool.dead, name, limit=1 << 30),
            batching=BATCHING,
            retry=Retry(),
            on_settled=lambda: (self.clock(), None)[1],
            collect_seconds=0.0,
            lending=Lending(backend.send_whole, lambda: True, least_bytes=1, clock=self.clock),
            clock=self.clock,
            wall_clock=lambda: self.now,
        )

    # What `Retention` needs of the deliveries.

    def __iter__(self) -> Iterator[Deliverer]:
        return iter(tuple(self.deliverers.values()))

    @property
    def durable(self) -> list[Position]:
        return [deliverer.progress.durable for deliverer in self]

    def has_cursor(self, name: str) -> bool:
        return name in self.deliverers

    def kill(self) -> None:
        """SIGKILL and a restart: what was not saved is forgotten."""
        for each in self:
            each._checkpoint.close()
        self._replace()

    def restart(self) -> None:
        """Let the process end cleanly, and start another one."""
        for each in self:
            each.stopping.set()
            each.run()
        self.save_account()
        self._replace()

    def _replace(self) -> None:
        self.account.close()
        self.appender.close()
        self.ticks_to_live = 0
        for name in self.known:
            backend = self.backends[name]
            backend.may_repeat |= self._left(backend)[0] & set(backend.got)
        self._start()

    @contextlib.contextmanager
    def may_be_killed(self, ticks: int) -> Iterator[None]:
        """Kill the process after ``ticks`` calls of the clock inside the block; 0: not at all."""
        self.ticks_to_live = ticks
        try:
            yield
        except Killed:
            self.kill()
        self.ticks_to_live = 0

    # -- the applications --------------------------------------------------------------------------------------------

    def start_application(self) -> None:
        number = len(self.applications) + len(self.ended)
        self.applications.append(Application(number, number.to_bytes(8, "big")))

    def log(self, application: Application, level: int, size: int, *, bad: bool, route: tuple[str, ...] | None) -> Sent:
        """Log one event: its frames go into the overflow of the application."""
        id = EventId(application.token, application.events)
        application.events += 1
        message = f"{'bad' if bad else 'good'} {id} {'.' * size}"
        payload = pack(Event(message=message, level=level, route=route, time=self.now))
        frames = frame.encode(payload, token=id.token, seq=id.seq, pid=application.pid, level=level)
        sent = self.sent[id] = Sent(id, level, route, message, frames)
        application.overflow.extend((sent, each) for each in frames)
        return sent

    def put(self, application: Application, most: int) -> None:
        """Move up to ``most`` frames from the overflow of an application to the pipe, as far as that has space."""
        while most and application.overflow:
            sent, data = application.overflow[0]
            try:
                os.write(self._end, data)
            except BlockingIOError:
                return
            application.overflow.popleft()
            self._put += len(data)
            self._in_pipe.append((sent, sent.frames.index(data), self._put))
            most -= 1

    def end_application(self, application: Application) -> None:
        """Kill an application outside a logging call, and start another one."""
        self.applications.remove(application)
        self.ended.append(application)
        self.start_application()

    def kill_in_call(self, application: Application, level: int, size: int, frames: int) -> None:
        """Kill an application in a call that has written up to ``frames`` frames of its event, never the last one."""
        self.put(application, ALL_AT_ONCE)
        if not application.overflow:
            sent = self.log(application, level, size, bad=False, route=None)
            self.put(application, min(frames, len(sent.frames) - 1))
            sent.is_returned = False
            application.overflow.clear()
        self.end_application(application)

    # -- intake ------------------------------------------------------------------------------------------------------

    def take(self, most: int) -> None:
        """Move up to ``most`` bytes from the pipe into the journal."""
        with self._appending():
            self.appender.splice(most=most)

    def adopt(self) -> None:
        """Append the overflows of processes that have ended."""
        with self._appending():
            for application in self.ended:
                if application.overflow:
                    self.appender.drain_pipe()
                    if self.appender.is_at_border():
                        frames = b"".join(data for _, data in application.overflow)
                        self.appender.append(frames, functools.partial(self._note_appended, application))

    def _note_appended(self, application: Application, size: int) -> None:
        while size > 0:
            sent, data = application.overflow.popleft()
            size -= len(data)
            self._note_journaled(sent, sent.frames.index(data))

    @contextlib.contextmanager
    def _appending(self) -> Iterator[None]:
        taken, journaled = self.appender.taken, self.journaled_bytes
        try:
            yield
            self.trouble = ""
        except QuotaReachedError:
            self.full.set()
        except OSError as error:
            self.trouble = str(error)
        finally:
            self._note_taken(self.appender.taken - taken)
            if self.journaled_bytes != journaled:
                self.full.clear()
        self.account_for_new()

    def _note_taken(self, size: int) -> None:
        self._taken += size
        while self._in_pipe and self._in_pipe[0][2] <= self._taken:
            sent, part, _ = self._in_pipe.popleft()
            self._note_journaled(sent, part)

    def _note_journaled(self, sent: Sent, part: int) -> None:
        sent.journaled += 1
        self.journaled_bytes += len(sent.frames[part])
        self.journaled += not part

    def take_everything(self) -> None:
        """Journal the pipe and the overflows of ended applications, as far as disk and quota allow."""
        before = -1
        while before != (before := self.journaled_bytes):
            self.take(ALL_AT_ONCE)
            self.adopt()
            if self.full.is_set():
                self.keep_quota()

    def account_for_new(self) -> None:
        with contextlib.suppress(OSError):
            self.account.follow(ALL_AT_ONCE)

    # -- time and house keeping --------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Advance the clock in steps; every `DEAD_WRITER` / 2 s the process empties pipe and overflows."""
        while seconds > 0:
            step = min(seconds, DEAD_WRITER / 4)
            self.now += step
            seconds -= step
            self.tell_deliverers()
            if self.now - self._looked_at >= DEAD_WRITER / 2:
                self._looked_at = self.now
                self.take_everything()

    def tell_deliverers(self, *, final_to: Position | None = None) -> None:
        for each in self:
            each.set_drain_mode(
                final_to is not None,
                final_to=final_to,
                disk_blocked=bool(self.trouble),
                quota_reached=self.full.is_set(),
            )

    def save_account(self) -> None:
        with contextlib.suppress(OSError):
            self.account.save()

    def delete_passed(self) -> None:
        with contextlib.suppress(OSError):
            self.retention.delete_passed()

    def keep_quota(self) -> None:
        with contextlib.suppress(OSError):
            self.retention.keep_quota()

    # -- backends ----------------------------------------------------------------------------------------------------

    def deliver(self, name: str, answer: str, while_sending: Callable[[], None] = lambda: None) -> None:
        """Run one round of a deliverer, unless it waits for its next try."""
        backend, deliverer = self.backends[name], self.deliverers.get(name)
        if deliverer is None or self.now < backend.next_try:
            return
        backend.answer, backend.while_sending = answer, while_sending
        deliverer.wake.set()
        try:
            failure = deliverer.deliver_once()
        except OSError:
            return
        if failure is not None:
            backend.next_try = self.now + (failure.retry_after or 1.0)

    def encode_elsewhere(self, name: str) -> None:
        """Give a backend's deliverer, if it has one, an encoder process."""
        if name in self.deliverers:
            lending = self.deliverers[name]._lending
            assert lending is not None
            encoder = ModelEncoder(self.spool.journal, self.backends[name], lambda: self.now)
            lending.borrower = self.encoders[name] = encoder

    def kill_encoder(self, name: str) -> None:
        if name in self.encoders:
            self.encoders.pop(name).is_killed = True

    def join(self) -> None:
        """Add a third backend, as a client that joins does; it gets what is journaled from this moment."""
        if "joined" in self.known:
            return
        with contextlib.suppress(OSError):
            begin_cursor(self._cursor_path("joined"), self.spool.journal)
            self.known.add("joined")
            self.configured.add("joined")
            self.backends["joined"].not_for_it = {id for id, sent in self.sent.items() if sent.journaled}
            self._open_deliverer("joined", self._open_cursor("joined"))

    def configure(self, names: set[str]) -> None:
        """Restart with those of the backends ``names`` that have a cursor."""
        self.configured = names & self.known
        self.restart()

    # -- the disk ----------------------------------------------------------------------------------------------------

    def fill_disk(self) -> None:
        self.account_may_forget = True
        with contextlib.suppress(OSError), open(self.folder / "ballast", "ab", buffering=0) as file:
            for size in (65536, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"." * size) == size:
                        pass

    def empty_disk(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def damage(self, segment: int, place: int) -> None:
        """Change one byte of a whole frame in the journal."""
        numbers = segments(self.spool.journal)
        if not numbers:
            return
        number = numbers[segment % len(numbers)]
        with open(segment_path(self.spool.journal, number), "r+b") as file:
            data = file.read()
            views = frame.scan(data).frames
            if not views:
                return
            at = place % len(data)
            for view in views:
                if view.start <= at < view.end:
                    self.sent[EventId(view.token, view.seq)].is_damaged = True
                    file.seek(at)
                    file.write(bytes([data[at] ^ 0x55]))

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check that every event is delivered, dead, dropped and counted, or would be delivered after a kill."""
        self.account_for_new()
        damaged = sum(sent.is_damaged for sent in self.sent.values())
        counted = self.account.journaled + self.account.duplicates
        if not self.account_may_forget:
            assert self.journaled - damaged <= counted <= self.journaled, f"account: {counted} of {self.journaled}"
        for name in sorted(self.known):
            self._check_backend(self.backends[name], damaged)

    def _check_backend(self, backend: ModelBackend, damaged: int) -> None:
        left, cursor = self._left(backend)
        wanted = {id for id, sent in self.sent.items() if self._is_wanted(sent, backend)}
        lost = wanted - set(backend.got) - self._dead(backend) - left
        lost -= {id for id in lost if self.sent[id].is_damaged or not self.sent[id].is_whole}
        unfinished = {id for id, sent in self.sent.items() if sent.journaled > 0 and not sent.is_whole}
        never = {id for id in unfinished if not self.sent[id].is_returned}

        assert len(lost) <= cursor.counts.get(QUOTA, 0), f"{backend.name}: lost without a count: {self._story(lost)}"
        assert cursor.counts.get(INCOMPLETE, 0) <= len(unfinished) + damaged, f"{backend.name}: incomplete"
        if backend.name in self.deliverers:
            counts = self.deliverers[backend.name].progress.counts
            assert counts.get(INCOMPLETE, 0) <= len(never) + damaged, f"{backend.name}: a whole event is incomplete"
        total = cursor.base + cursor.settled
        # A backend that joins later takes its base from the account, without the events that the account has forgotten.
        has_exact_base = cursor.base >= 0 and not (self.account_may_forget and backend.name == "joined")
        if has_exact_base:
            is_exact = self.journaled - damaged <= total <= self.journaled
            assert is_exact, f"{backend.name}: counted {total} of {self.journaled}"
        assert set(backend.got) <= {id for id, sent in self.sent.items() if sent.is_whole}
        twice = {id for id, times in backend.got.items() if times > 1} - backend.may_repeat
        assert not twice, f"{backend.name}: delivered twice without a reason: {self._story(twice)}"
        assert self._dead(backend) <= backend.refused, "only what a backend refuses becomes a dead letter"

    def _is_wanted(self, sent: Sent, backend: ModelBackend) -> bool:
        is_routed = sent.route is None or backend.name in sent.route
        return sent.is_returned and sent.level >= backend.level and is_routed and sent.id not in backend.not_for_it

    def _left(self, backend: ModelBackend) -> tuple[set[EventId], Cursor]:
        """Return the ids that the next process would read for a backend, and a cursor that has settled them."""
        path = self._aside / "cursor.json"
        with contextlib.suppress(OSError):
            shutil.copyfile(self._cursor_path(backend.name), path)
        cursor = self._cursor(str(path), backend.name)
        cursor.set_drain_mode(final_to=BEHIND_ALL)
        left = set()
        while entries := cursor.read(ALL_AT_ONCE, 1 << 30):
            for entry in entries:
                left.add(entry.id)
                cursor.settle(entry, DELIVERED)
        cursor.commit(save=False)
        cursor.close()
        path.unlink(missing_ok=True)
        return left, cursor

    def _dead(self, backend: ModelBackend) -> set[EventId]:
        path = Path(self.spool.dead, f"{backend.name}.ndjson")
        if not path.exists():
            return set()
        ids = [line.split(b'"id": "', 1)[1].split(b'"', 1)[0].decode() for line in path.read_bytes().splitlines()]
        return {EventId(bytes.fromhex(id[:16]), int(id[17:])) for id in ids}

    def _story(self, ids: set[EventId]) -> str:
        found = (self.sent[id] for id in sorted(ids))
        return ", ".join(f"{each.id} (level {each.level}, {len(each.frames)} frames)" for each in found)

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """End all faults, deliver everything, and check that nothing is left."""
        self.empty_disk()
        self.configured = set(self.known)
        self.restart()
        for application in list(self.applications):
            self.end_application(application)
        for _ in range(10_000):
            self.take_everything()
            self.pass_time(1.0)
            is_all = not any(each.overflow for each in self.ended) and not self._in_pipe
            self.tell_deliverers(final_to=BEHIND_ALL if is_all else None)
            for name in sorted(self.configured):
                self.deliver(name, "accepts")
            self.delete_passed()
            if all(each.drained.is_set() for each in self):
                break
        self.check()
        for name in self.known:
            left, _ = self._left(self.backends[name])
            assert not left, f"{name}: {len(left)} events are left"
        self._check_history()

    def _check_history(self) -> None:
        """Check that every whole event can be read again, if segments are kept for ever on a large disk."""
        disk = os.statvfs(self.folder)
        if self.spooling.keep != KEPT_FOR_EVER or disk.f_blocks * disk.f_frsize < FREE_BYTES:
            return
        history = History(self.spool.journal, self.spool.kept)
        recorded = Counter(each.id for each in history.read())
        history.close()
        wanted = {id for id, sent in self.sent.items() if sent.is_whole and not sent.is_damaged}
        assert wanted <= set(recorded), f"not recorded: {self._story(wanted - set(recorded))}"
        assert max(recorded.values(), default=1) == 1

    def close(self) -> None:
        for each in self:
            each._checkpoint.close()
        self.account.close()
        self.appender.close()
        os.close(self.pipe)
        os.close(self._end)
        shutil.rmtree(self.folder)
        shutil.rmtree(self._aside)
