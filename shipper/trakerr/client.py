"""TrakerrClient: creates AppEvents, fills in what they leave open, and sends them."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..application import api, lifecycle
from ..application.capture.pipeline import active
from ..application.capture.surroundings import surroundings
from ..application.client import ClientBinding
from ..application.stderr import warn_on_stderr
from ..backends.protocol import AppContext
from ..backends.settings.validators import MOST_IN_FLIGHT
from ..backends.trakerr import Trakerr
from ..backends.wire.trakerr_event import FIELDS, level_word
from ..config.settings import identity
from ..event.codec import unpack
from ..event.model import TRACE_ID, Event, EventId
from ..transport.channel import new_token
from .arguments import STRINGS, STRINGS_OR_NONE, check_count, check_texts
from .defaults import ClientDefaults
from .errors import ApiException
from .exceptions import ExcInfo, exceptions_of, stacktrace, working_directory
from .load import LoadReader
from .models import AppEvent, wire
from .post import post
from .scope import fields

URL = "SHIPPER_TRAKERR_URL"
"""Environment variable: the service's address, when no ``url`` is given."""

SHUTDOWN_SECONDS = 10.0
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
CallBack = Callable[[tuple[None, int, dict[str, str]]], object]
_UNKNOWN = "unknown"
_NO_KEY = "none"  # of the backend for events whose own key no backend can have
OLD_DEFAULTS = (4, 4)  # threads and connections of trakerr-python, whose code sent one event at a time


class TrakerrClient(ClientDefaults):
    """Sends AppEvents under one key. Making one starts the shipper process unless it runs.

    Its properties are the defaults of an event's fields, read when the event is sent:

    ``api_key``; ``context_app_version`` ("1.0"); ``context_deployment_stage`` ("development");
    ``context_env_language`` ("Python"); ``context_env_name``, ``context_env_version``, ``context_env_hostname`` (the
    interpreter's and the machine's); ``context_app_os``, ``context_app_os_version`` (the system's);
    ``context_app_browser``, ``context_app_browser_version``, ``context_data_center``, ``context_data_center_region``,
    ``context_app_sku`` (not sent); ``context_tags`` (none). The names that trakerr-python's code had for them are
    aliases.

    With the default ``threads`` and ``connections``, 4 and 4, events are sent one after the other, in the order of
    logging; otherwise up to as many at the same time as the smaller of the two. ``connnections`` is trakerr-python's
    spelling. ``url``: the service's address (``SHIPPER_TRAKERR_URL``, else https://www.trakerr.io/api/v1). ``timeout``:
    seconds to connect, and seconds until the whole answer has arrived (3.05, 10).

    Raises TypeError for arguments of a wrong type, ConfigurationError for a key, an address or a number that can't be
    one, and for a spool that can't be used.
    """

    def __init__(
        self,
        api_key: str,
        context_app_version: str = "1.0",
        context_deployment_stage: str = "development",
        application_sku: str = "",
        tags: Iterable[str] | None = (),
        threads: int = 4,
        connections: int = 4,
        *,
        connnections: int | None = None,
        url: str | None = None,
        timeout: tuple[float, float] = (3.05, 10),
    ) -> None:
        check_texts(
            STRINGS,
            api_key=api_key,
            context_app_version=context_app_version,
            context_deployment_stage=context_deployment_stage,
            application_sku=application_sku,
        )
        connections = connections if connnections is None else connnections
        for name, number in (("threads", threads), ("connections", connections)):
            check_count(name, number)
        super().__init__(context_app_version, context_deployment_stage, application_sku, tags)
        self._url = os.environ.get(URL, Trakerr.url) if url is None else url
        self._timeout = timeout
        self._in_flight = 1 if (threads, connections) == OLD_DEFAULTS else min(threads, connections, MOST_IN_FLIGHT)
        self._bindings: dict[str, ClientBinding] = {}
        self._api_key = api_key
        self._load = LoadReader()
        self._bind(api_key)
        app = lifecycle.current()
        self._cwd = working_directory() if app is None else app.settings.cwd

    @property
    def api_key(self) -> str:
        return self._api_key

    @api_key.setter
    def api_key(self, value: str) -> None:
        check_texts(STRINGS, api_key=value)
        self._bind(value)
        self._api_key = value

    # -- events --------------------------------------------------------------------------------------------------------

    def create_new_app_event(
        self,
        log_level: str = "error",
        classification: str | None = "issue",
        event_type: str | None = _UNKNOWN,
        event_message: str | None = _UNKNOWN,
        exc_info: ExcInfo = False,
    ) -> AppEvent:
        """An event, with the stack trace of an exception when there is one.

        ``exc_info``: False for none, True or None for the exception that is being handled, an exception, or a triple.
        Type and message are the exception's unless they are given. An unknown level becomes "error". Raises TypeError
        for any other ``exc_info``, and for texts that are no str; all but ``log_level`` may be None.
        """
        check_texts(STRINGS_OR_NONE, log_level=log_level)
        exceptions = exceptions_of(exc_info)
        if exceptions:
            event_type = exceptions[0].type if event_type in (None, _UNKNOWN) else event_type
            event_message = exceptions[0].message if event_message in (None, _UNKNOWN) else event_message
        given = {"classification": classification, "event_type": event_type, "event_message": event_message}
        check_texts(STRINGS_OR_NONE, **{name: value for name, value in given.items() if value is not None})
        return AppEvent(
            api_key=self._api_key,
            log_level=level_word(log_level) or "error",
            classification=classification,
            event_type=event_type,
            event_message=event_message,
            event_stacktrace=stacktrace(exceptions, self._cwd) if exceptions else None,
        )

    def log(
        self,
        arg_dict: Mapping[str, object],
        log_level: str = "error",
        classification: str | None = "issue",
        exc_info: ExcInfo = True,
    ) -> None:
        """Queue an event with the fields in ``arg_dict``.

        Raises TypeError for arguments of a wrong type, and AttributeError for an ``arg_dict`` without ``get``.

        Its keys: eventtype, eventmessage ("unknown", or the exception's), user, session, time (duration of the
        operation, usually in milliseconds), url, corrid (correlation id), device. Others are ignored.
        """
        find: Callable[[str], Any] = arg_dict.get
        given = {name: find(name) for name in ("eventtype", "eventmessage")}
        kind, message = (_UNKNOWN if value is None else value for value in given.values())
        event = self.create_new_app_event(log_level, classification, kind, message, exc_info)
        event.event_user = find("user")
        event.event_session = find("session")
        event.context_operation_time_millis = find("time")
        event.context_url = find("url")
        event.context_cross_app_correlation_id = find("corrid")
        event.context_device = find("device")
        self.send_event_async(event)

    def fill_defaults(self, app_event: AppEvent) -> AppEvent:
        """Set the empty fields of the event to the defaults, but its time, which is set at each sending; return it.

        Raises TypeError for anything but an AppEvent.
        """
        _check_event(app_event)
        if app_event.api_key is None:
            app_event.api_key = self._api_key
        for key, value in {**self.defaults(), **_surrounding()}.items():
            if getattr(app_event, FIELDS[key]) is None:
                setattr(app_event, FIELDS[key], value)
        return app_event

    def record_defaults(self) -> dict[str, Any]:
        """The defaults of an event that is made of a log record."""
        return {**self.defaults(), **_carried_key(self.binding(), self._api_key)}

    # -- sending -------------------------------------------------------------------------------------------------------

    def send_event_async(self, app_event: AppEvent, call_back: CallBack | None = None) -> None:
        """Queue the event as it is now; the shipper process delivers it.

        ``call_back((None, 202, {}))`` is called in this thread once the event is queued; not when it was dropped, which
        `shipper.status` counts. When it raises, or can't be called, a line on stderr says so. Raises TypeError for an
        event of a wrong type, nothing else.
        """
        _check_event(app_event)
        if not self._enqueue(app_event) or call_back is None:
            return
        try:
            call_back((None, 202, {}))
        except Exception as error:
            warn_on_stderr("a call_back raised", repr(error))

    def _enqueue(self, app_event: AppEvent) -> bool:
        try:
            binding, event = self._prepare(app_event)
            return binding.enqueue(event)
        except Exception as error:  # an invalid key, or a spool that can't be used any more
            warn_on_stderr("an AppEvent was not queued", repr(error))
        pipeline = active.pipeline
        if pipeline is not None:
            pipeline.queue.drop("failed", logging.ERROR)
        return False

    def send_event(self, app_event: AppEvent) -> tuple[None, int]:
        """Send the event from this thread, without the queue; returns ``(None, status)`` of the response.

        Raises ApiException for everything but a success: with the response's status, or with 0 when there was none, or
        when ``before_send`` or masking dropped the event. Raises TypeError for anything but an AppEvent, and
        ConfigurationError for a key of the event's own that can't be one, such as a placeholder.
        """
        _check_event(app_event)
        binding, event = self._prepare(app_event)
        payload = binding.pipeline().pack(event)
        if payload is None:
            raise ApiException(0, "before_send, or masking, dropped the event")
        event = unpack(payload, EventId(new_token(), 0))
        context = AppContext(app="", cwd=self._cwd, host=platform.node(), address="", load=self._load)
        backend = binding.backend
        headers = {**backend.headers(context), **backend.request_headers([event])}
        return None, post(backend.endpoint, backend.body([event], context), headers, backend.timeout)

    def _prepare(self, app_event: AppEvent) -> tuple[ClientBinding, Event]:
        """The event as it is now, and the binding for its key."""
        own = wire(app_event)
        key = own.pop("apiKey", self._api_key)
        binding = self._bind(key)
        event = Event(
            kind="trakerr",
            time=time.time(),
            level=LEVELS.get(app_event.log_level or "error", logging.ERROR),
            level_name=app_event.log_level or "",
            message=str(app_event.event_message or ""),
            data={**self.defaults(), **_surrounding(), **own, **_carried_key(binding, key)},
        )
        return binding, event

    def _bind(self, key: Any) -> ClientBinding:
        """The binding for that key. A key that no backend can have (empty, or not a str) travels with its events."""
        able = key if isinstance(key, str) and key.strip() else _NO_KEY
        if able not in self._bindings:
            backend = Trakerr(
                able,
                url=self._url,
                level=logging.NOTSET,
                timeout=self._timeout,
                max_in_flight=self._in_flight,
                initial_in_flight=self._in_flight,
            )
            # Other processes give an equal backend the same name, in whatever order they make their clients.
            self._bindings[able] = ClientBinding(dataclasses.replace(backend, name=f"trakerr-{identity(backend)}"))
        return self._bindings[able]

    def binding(self) -> ClientBinding:
        """The binding for the client's own key."""
        return self._bind(self._api_key)

    @staticmethod
    def shutdown(timeout: float = SHUTDOWN_SECONDS) -> bool:
        """Wait until everything that this process sent is delivered; False after ``timeout`` seconds (10).

        Nothing is closed: what is sent later is delivered too. What is not delivered by then stays in the journal.
        """
        return lifecycle.current() is None or api.flush(timeout)


def _surrounding() -> Mapping[str, str]:
    """What surrounds the call: the trace id of OpenTelemetry's span, and the fields of `context`."""
    trace_id = surroundings().get(TRACE_ID)
    return {"contextCrossAppCorrelationId": trace_id, **fields()} if trace_id else fields()


def _carried_key(binding: ClientBinding, key: Any) -> dict[str, Any]:
    """The key, if the backend does not have it. Otherwise the backend adds it, and it is in no journal."""
    return {} if binding.backend.destination[1] == key else {"apiKey": key}


def _check_event(value: object) -> None:
    if not isinstance(value, AppEvent):
        raise TypeError(f"Argument is expected of class AppEvent. app_event is {type(value).__name__}")
