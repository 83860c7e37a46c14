"""Our handler on a logger of the application, and the logger's level while it is attached."""

from __future__ import annotations

import logging

from .handler import QueueHandler


class Attachment:
    """Attached when made, until `detach`.

    ``level`` is the handler's, ``wanted`` the lowest level that a backend takes. Where logging was never configured,
    the logger's level is lowered to ``wanted``. ``before`` is the attachment that this one replaces: it is detached,
    with no moment in which neither ships.
    """

    def __init__(self, logger: logging.Logger, *, level: int, wanted: int, before: Attachment | None = None) -> None:
        self.logger = logger
        self._replaced_level = self._lower_level(wanted, before)
        self._level = logger.level
        self._handler = QueueHandler(level=level)
        logger.addHandler(self._handler)
        if before is not None:
            before.detach()

    def _lower_level(self, wanted: int, before: Attachment | None) -> int | None:
        """Lower the logger's level if that is ours to do; the level to restore, None when it was not changed."""
        logger = self.logger
        has_default_level = logger.getEffectiveLevel() == logging.WARNING and logger.level in (logging.WARNING, 0)
        is_unconfigured = has_default_level and not logger.hasHandlers()
        usual = before._hand_over_level(logger) if before is not None else None
        if usual is None and is_unconfigured:
            usual = logger.level
        if usual is None or (usual or logging.WARNING) <= wanted:
            return None
        logger.setLevel(wanted)
        return usual

    def _hand_over_level(self, logger: logging.Logger) -> int | None:
        """The level that `detach` would have restored, and now won't; None when it would not have changed it."""
        if self.logger is not logger:
            return None
        replaced, self._replaced_level = self._replaced_level, None
        return replaced if logger.level == self._level else None

    def detach(self) -> None:
        """Remove the handler; restore the logger's level unless the application has set another one. Idempotent."""
        self.logger.removeHandler(self._handler)
        self._handler.close()
        replaced, self._replaced_level = self._replaced_level, None
        if replaced is not None and self.logger.level == self._level:
            self.logger.setLevel(replaced)
