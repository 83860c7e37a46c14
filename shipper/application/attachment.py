"""Our handler on a logger of the application, and the logger's level while it is attached."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from .capture.handler import LocklessHandler, QueueHandler
from .stderr import warn_on_stderr


class Attachment:
    """A handler on ``logger``, attached by the constructor and removed by `detach`.

    ``level`` is the handler's, ``wanted`` the lowest level that a backend takes. Where logging was never configured,
    the logger's level is lowered to ``wanted``. ``before``, if given, is detached after this one is
    attached.

    Code that configures logging later (dictConfig, fileConfig, basicConfig(force=True), Celery) removes all handlers:
    `check` notices that, and with ``keep`` it attaches the handler again. ``on_close`` is called when such code closes
    the handler.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        level: int,
        wanted: int,
        before: Attachment | None = None,
        keep: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.logger = logger
        self._keep = keep
        self._detached = threading.Event()
        self._was_effective = True
        self._replaced_level = self._lower_level(wanted, before)
        self._level = logger.level
        self._handler = QueueHandler(level=level)
        self._handler.on_close = on_close
        logger.addHandler(self._handler)
        if before is not None:
            before.detach()

    def _lower_level(self, wanted: int, before: Attachment | None) -> int | None:
        """Lower the logger's level if it was never configured; the level to restore, None when it was not changed."""
        logger = self.logger
        has_default_level = logger.getEffectiveLevel() == logging.WARNING and logger.level in (logging.WARNING, 0)
        is_unconfigured = has_default_level and not _is_configured(logger)
        usual = before._hand_over_level(logger) if before is not None else None
        if usual is None and is_unconfigured:
            usual = logger.level
        if usual is None or (usual or logging.WARNING) <= wanted:
            return None
        logger.setLevel(wanted)
        return usual

    def _hand_over_level(self, logger: logging.Logger) -> int | None:
        """Give up the level that `detach` would restore, and return it; None when `detach` would change nothing."""
        if self.logger is not logger:
            return None
        replaced, self._replaced_level = self._replaced_level, None
        return replaced if logger.level == self._level else None

    @property
    def is_effective(self) -> bool:
        """Whether a record of the logger reaches a handler of ours: this one, or another one of this package."""
        return not self.logger.disabled and is_reached(self.logger)

    def check(self) -> bool:
        """Warn on stderr when the handler was removed or the logger disabled; with ``keep`` attach a removed one again.

        True for the first call that finds nothing shipped and attaches nothing, else False.
        """
        was_effective, self._was_effective = self._was_effective, self.is_effective
        if self._was_effective or self._detached.is_set():
            return False
        if self._keep and not self.logger.disabled:
            self._attach_again()
            return False
        if was_effective:
            warn_on_stderr(f"nothing is shipped from the logger {self.logger.name!r}: {self._cause()}")
        return was_effective

    def _attach_again(self) -> None:
        self.logger.addHandler(self._handler)
        if self._detached.is_set():  # by another thread, meanwhile
            self.logger.removeHandler(self._handler)
        warn_on_stderr(f"the handler on the logger {self.logger.name!r} had been removed, and is attached again")

    def _cause(self) -> str:
        if self.logger.disabled:
            return (
                "it was disabled (disable_existing_loggers of dictConfig or fileConfig is True by default); pass "
                "disable_existing_loggers=False, and call shipper.start() after logging is configured"
            )
        return (
            "the handler was removed after shipper.start() (by dictConfig, fileConfig, basicConfig(force=True) or the "
            "like); call shipper.start() again after logging is configured, or pass keep_attached=True"
        )

    def detach(self) -> None:
        """Remove the handler; restore the logger's level unless the application has set another one. Idempotent."""
        self._detached.set()
        self.logger.removeHandler(self._handler)
        self._handler.on_close = None
        self._handler.close()
        replaced, self._replaced_level = self._replaced_level, None
        if replaced is not None and self.logger.level == self._level:
            self.logger.setLevel(replaced)


def _is_configured(logger: logging.Logger) -> bool:
    """Whether a handler of the application gets the logger's records. pytest's, there in every test, do not count."""
    return any(
        type(handler).__module__ != "_pytest.logging" and not isinstance(handler, LocklessHandler)
        for handler in _reached(logger)
    )


def is_reached(logger: logging.Logger) -> bool:
    """Whether a handler of this package gets the logger's records."""
    return any(isinstance(each, LocklessHandler) for each in _reached(logger))


def _reached(logger: logging.Logger) -> Iterator[object]:
    """The handlers that a record of the logger reaches, also behind a MemoryHandler or a queue's listener."""
    current: logging.Logger | None = logger
    while current is not None:
        waiting: list[object] = list(current.handlers)
        while waiting:
            handler = waiting.pop()
            yield handler
            waiting += [each for each in (getattr(handler, "target", None),) if isinstance(each, logging.Handler)]
            waiting += getattr(getattr(handler, "listener", None), "handlers", ())
        current = current.parent if current.propagate else None
