"""uvicorn: its own log lines on the console as usual, and shipped.

>>> uvicorn.run("shop:app", log_config=log_config)

`shipper.start` in the application ships uvicorn's loggers anyway; `log_config` also ships what they log before that.
"""

from __future__ import annotations

from typing import Any

_SHIPPED = {"class": "shipper.QueueHandler"}

log_config: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {"()": "uvicorn.logging.DefaultFormatter", "fmt": "%(levelprefix)s %(message)s", "use_colors": None},
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
        },
    },
    "handlers": {
        "default": {"class": "logging.StreamHandler", "formatter": "default", "stream": "ext://sys.stderr"},
        "access": {"class": "logging.StreamHandler", "formatter": "access", "stream": "ext://sys.stdout"},
        "shipper": _SHIPPED,
        "shipper_access": {**_SHIPPED, "level": "WARNING"},
    },
    "loggers": {
        "uvicorn": {"handlers": ["default", "shipper"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access", "shipper_access"], "level": "INFO", "propagate": False},
    },
}
"""For uvicorn's setting of the same name. Access lines are shipped at WARNING or above; change that in a copy."""
