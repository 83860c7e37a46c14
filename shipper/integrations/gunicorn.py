"""gunicorn: its own log lines on the console as usual, and shipped.

>>> from shipper.integrations.gunicorn import logconfig_dict      # in gunicorn.conf.py

`shipper.start` in the application ships gunicorn's error log, in workers once they have loaded the application. To ship
what the master logs too, such as workers killed after a time-out, use `logconfig_dict` and call `shipper.start()`
in ``gunicorn.conf.py`` as well.
"""

from __future__ import annotations

from typing import Any

_SHIPPED = {"class": "shipper.QueueHandler"}

logconfig_dict: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console", "shipper"]},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"},
        "access_console": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"},
        "shipper": _SHIPPED,
        "shipper_access": {**_SHIPPED, "level": "WARNING"},
    },
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["console", "shipper"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["access_console", "shipper_access"], "propagate": False},
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
        },
        "plain": {"format": "%(message)s"},
    },
}
"""For gunicorn's setting of the same name. Access lines are shipped at WARNING or above; change that in a copy."""
