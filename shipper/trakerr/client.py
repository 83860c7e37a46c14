"""TrakerrClient: creates AppEvents, fills in what they leave open, and sends them."""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

from .._support.values import replaced
from ..application import api
from ..application.client import ClientBinding
from ..application.handler import running, warn_on_stderr
from ..backends.protocol import AppContext
from ..backends.trakerr import FIELDS, Trakerr, environment, level_word
from ..backends.validators import MOST_IN_FLIGHT
from ..config.settings import identity
from ..errors import ConfigurationError
from ..event.codec import unpack
from ..event.model import Event, EventId
from ..spool.files import read_json
from ..transport.channel import new_token
from .errors import ApiException
from .exceptions import ExcInfo, found, stacktrace, working_directory
from .models import AppEvent, wire
from .post import post
from .scope import fields

URL = "SHIPPER_TRAKERR_URL"
"""The environment variable that says where the service is, when nothing else does."""

FLUSH = 10.0  # seconds that `shutdown` takes at most
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
PATIENCE = 3.0  # seconds that the first `send_event` waits for a process that was just started to tell its load
CallBack = Callable[[tuple[None, int, dict[str, str]]], object]
_UNKNOWN = "unknown"
_NO_KEY = "none"  # a backend's key, for events that bring one along that no backend can have
NEAR = 5.0  # seconds between an event and a sample of the machine's load that may speak for it


class Default:
    """A property of the client: a text, or None to send nothing. ``del`` makes it None."""

    def __init__(self, key: str) -> None:
        self._key = key

    @overload
    def __get__(self, client: None, owner: type[object]) -> Default: ...
    @overload
    def __get__(self, client: TrakerrClient, owner: type[object]) -> str | None: ...
    def __get__(self, client: TrakerrClient | None, owner: type[object]) -> Default | str | None:
        return self if client is None else client._said[self._key]

    def __set__(self, client: TrakerrClient, value: str | None) -> None:
        client._said[self._key] = value

    def __delete__(self, client: TrakerrClient) -> None:
        client._said[self._key] = None


class Tags:
    """The client's tags: its own list. Any collection of texts may be set, or a single one; None sends no tags."""

    @overload
    def __get__(self, client: None, owner: type[object]) -> Tags: ...
    @overload
    def __get__(self, client: TrakerrClient, owner: type[object]) -> list[str]: ...
    def __get__(self, client: TrakerrClient | None, owner: type[object]) -> Tags | list[str]:
        if client is None:
            return self
        return client._tags if client._tags is not None else []

    def __set__(self, client: TrakerrClient, value: Iterable[str] | None) -> None:
        client._tags = None if value is None else _tags("context_tags", value)

    def __delete__(self, client: TrakerrClient) -> None:
        client._tags = None


AS_EVER = (4, 4)  # threads and connections of trakerr-python, which used one connection in fact


class TrakerrClient:
    """Sends AppEvents under one key. Making one starts the shipper process when nobody has.

    Its properties are what every event says that does not say it itself, at the time it is sent:

    ``api_key``; ``context_app_version`` ("1.0"); ``context_deployment_stage`` ("development");
    ``context_env_language`` ("Python"); ``context_env_name``, ``context_env_version``, ``context_env_hostname`` (the
    interpreter's and the machine's); ``context_app_os``, ``context_app_os_version`` (the system's);
    ``context_app_browser``, ``context_app_browser_version``, ``context_data_center``, ``context_data_center_region``,
    ``context_app_sku`` (not sent); ``context_tags`` (none). The names that trakerr-python's code had for them reach the
    same values.

    With the usual ``threads`` and ``connections``, 4 and 4, events go out one after the other, in the order of logging;
    with others several at the same time, over a slow network as many as the smaller of the two says. ``connnections``
    is the old spelling of the latter. ``url`` is the
    service's address, by default that in ``SHIPPER_TRAKERR_URL``, else https://www.trakerr.io/api/v1; ``timeout``
    seconds to connect and seconds until the whole answer is there.

    Raises TypeError for arguments of a wrong type, ConfigurationError for a key or an address that can't be one.
    """

    context_app_version = Default("contextAppVersion")
    context_deployment_stage = context_development_stage = Default("deploymentStage")
    context_env_language = context_env_anguage = Default("contextEnvLanguage")
    context_env_name = Default("contextEnvName")
    context_env_version = Default("contextEnvVersion")
    context_env_hostname = Default("contextEnvHostname")
    context_app_os = context_appos = Default("contextAppOS")
    context_app_os_version = context_appos_version = Default("contextAppOSVersion")
    context_app_browser = context_appbrowser = Default("contextAppBrowser")
    context_app_browser_version = context_appbrowser_version = Default("contextAppBrowserVersion")
    context_data_center = context_datacenter = Default("contextDataCenter")
    context_data_center_region = context_datacenter_region = Default("contextDataCenterRegion")
    context_app_sku = context_application_sku = Default("contextAppSku")
    context_tags = Tags()

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
        _check_texts(
            "Arguments are expected strings:",
            api_key=api_key,
            context_app_version=context_app_version,
            context_deployment_stage=context_deployment_stage,
            application_sku=application_sku,
        )
        connections = connections if connnections is None else connnections
        for name, number in (("threads", threads), ("connections", connections)):
            _check_count(name, number)
        self._tags: list[str] | None = _tags("tags", () if tags is None else tags)
        self._said: dict[str, str | None] = {
            "contextAppVersion": context_app_version,
            "deploymentStage": context_deployment_stage,
            **environment(),
            "contextEnvHostname": platform.node(),
            "contextAppBrowser": None,
            "contextAppBrowserVersion": None,
            "contextDataCenter": None,
            "contextDataCenterRegion": None,
            "contextAppSku": application_sku,
        }
        self._url = url or os.environ.get(URL) or Trakerr.url
        self._timeout = timeout
        self._in_flight = 1 if (threads, connections) == AS_EVER else min(threads, connections, MOST_IN_FLIGHT)
        self._lines: dict[str, ClientBinding] = {}
        self._api_key = api_key
        self._patience = PATIENCE
        self._line(api_key)
        begun = api.current()
        self._cwd = working_directory() if begun is None else begun.settings.cwd

    @property
    def api_key(self) -> str:
        return self._api_key

    @api_key.setter
    def api_key(self, value: str) -> None:
        _check_texts("Arguments are expected strings:", api_key=value)
        self._line(value)
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
        Type and message are the exception's unless they are given. A level that there is not becomes "error".
        """
        _check_texts("Arguments are expected strings or None.", log_level=log_level)
        exceptions = found(exc_info)
        if exceptions:
            event_type = exceptions[0].type if event_type in (None, _UNKNOWN) else event_type
            event_message = exceptions[0].message if event_message in (None, _UNKNOWN) else event_message
        given = {"classification": classification, "event_type": event_type, "event_message": event_message}
        _check_texts(
            "Arguments are expected strings or None.", **{name: one for name, one in given.items() if one is not None}
        )
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
        """Send an event with what ``arg_dict`` says; nothing is raised but TypeErrors for arguments of a wrong type.

        Its keys: eventtype, eventmessage ("unknown", or the exception's), user, session, time (that the operation
        took, usually in milliseconds), url, corrid (correlation id), device. Others are ignored.
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
        """Fill in what the event leaves open, but its time, which is that of each sending; the same event."""
        _check_event(app_event)
        if app_event.api_key is None:
            app_event.api_key = self._api_key
        for key, value in {**self.defaults(), **fields()}.items():
            if getattr(app_event, FIELDS[key]) is None:
                setattr(app_event, FIELDS[key], value)
        return app_event

    def defaults(self) -> dict[str, Any]:
        """The properties but the key, by their keys on the wire, in a copy; None is what is not sent."""
        tags = None if self._tags is None else list(self._tags)
        sku = self._said["contextAppSku"]
        return {**self._said, "contextTags": tags, "contextAppSku": None if sku == "" else sku}

    def of_records(self) -> dict[str, Any]:
        """The defaults, with the key when it has to travel along."""
        return {**self.defaults(), **_carried(self.line(), self._api_key)}

    # -- sending -------------------------------------------------------------------------------------------------------

    def send_event_async(self, app_event: AppEvent, call_back: CallBack | None = None) -> None:
        """Queue the event as it is now; the shipper process delivers it.

        ``call_back((None, 202, {}))`` is called, in this thread, when the queue has it; not when it was dropped, which
        `shipper.status` counts. Nothing is raised but TypeErrors.
        """
        _check_event(app_event)
        if call_back is not None and not callable(call_back):
            raise TypeError(f"call_back is expected to be callable or None, not {type(call_back).__name__}.")
        if not self._queued(app_event) or call_back is None:
            return
        try:
            call_back((None, 202, {}))
        except Exception as error:
            warn_on_stderr("a call back failed", repr(error))

    def _queued(self, app_event: AppEvent) -> bool:
        try:
            line, event = self._prepared(app_event)
            return line.put(event)
        except Exception as error:  # a key that can't be one, a spool that can't be used any more
            warn_on_stderr("an AppEvent was not sent", repr(error))
        pipeline = running()
        if pipeline is not None:
            pipeline.queue.drop("failed", logging.ERROR)
        return False

    def send_event(self, app_event: AppEvent) -> tuple[None, int]:
        """Send the event from this thread, past the queue; ``(None, status)`` of the answer.

        Raises ApiException for everything but a success: for an answer with its status, without one with the status 0.
        """
        _check_event(app_event)
        line, event = self._prepared(app_event)
        payload = line.pipeline().packed(event)
        if payload is None:
            raise ApiException(0, "before_send, or masking, dropped the event")
        event = unpack(payload, EventId(new_token(), 0))
        context = AppContext(app="", cwd=self._cwd, host=platform.node(), address="", load=self._load)
        backend = line.backend
        headers = {**backend.headers(context), **backend.request_headers([event])}
        return None, post(backend.endpoint, backend.body([event], context), headers, backend.timeout)

    def _load(self, now: float) -> tuple[float, float] | None:
        """CPU and memory as the shipper process saw them near to ``now``; it may only just have been started."""
        deadline = now + self._patience
        self._patience = 0.0
        pause = threading.Event()
        while (sample := _latest()) is None or abs(now - sample[0]) > NEAR:
            if time.time() >= deadline or api.current() is None:
                return None
            pause.wait(0.02)
        return sample[1:]

    def _prepared(self, app_event: AppEvent) -> tuple[ClientBinding, Event]:
        """The event as it is now, and the line for its key."""
        said = wire(app_event)
        key = said.pop("apiKey", self._api_key)
        line = self._line(key)
        event = Event(
            kind="trakerr",
            time=time.time(),
            level=LEVELS.get(app_event.log_level or "error", logging.ERROR),
            level_name=app_event.log_level or "",
            message=str(app_event.event_message or ""),
            data={**self.defaults(), **fields(), **said, **_carried(line, key)},
        )
        return line, event

    def _line(self, key: Any) -> ClientBinding:
        """The line under that key. A key that no backend can have ("", or no text) travels with its events."""
        able = key if isinstance(key, str) and key.strip() else _NO_KEY
        if able not in self._lines:
            backend = Trakerr(
                able, url=self._url, level=logging.NOTSET, timeout=self._timeout, max_in_flight=self._in_flight
            )
            # The name tells which backend it is, in whatever process and order clients are made.
            self._lines[able] = ClientBinding(replaced(backend, name=f"trakerr-{identity(backend)}"))
        return self._lines[able]

    def line(self) -> ClientBinding:
        """The line under the client's own key."""
        return self._line(self._api_key)

    @staticmethod
    def shutdown(timeout: float = FLUSH) -> bool:
        """Wait until everything that this process sent is delivered, ``timeout`` seconds (10) at most; whether it is.

        Nothing is closed: what is sent later is delivered too. What is not delivered yet stays in the journal.
        """
        return api.current() is None or api.flush(timeout)


def _carried(line: ClientBinding, key: Any) -> dict[str, Any]:
    """The key itself, when it is none that a backend can have; else the backend puts it in, and no journal sees it."""
    return {} if line.backend.destination[1] == key else {"apiKey": key}


def _check_texts(message: str, **values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str):
            raise TypeError(f"{message} {name} is {type(value).__name__}")


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{name} is expected to be a number, not {type(value).__name__}")
    if value < 1:
        raise ConfigurationError(name, value, "a whole number, 1 or more")


def _check_event(value: object) -> None:
    if not isinstance(value, AppEvent):
        raise TypeError(f"Argument is expected of class AppEvent. app_event is {type(value).__name__}")


def _tags(name: str, value: object) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable):
        raise TypeError(f"Arguments are expected strings: {name} is {type(value).__name__}")
    return list(value)


def _latest() -> tuple[float, float, float] | None:
    """The shipper process's last sample: when, CPU, memory."""
    begun = api.current()
    said = None if begun is None else read_json(begun.spool.status)
    try:
        when, cpu, memory = map(float, (said or {})["load"])
    except (LookupError, TypeError, ValueError):  # there is none yet, or the file is damaged
        return None
    return when, cpu, memory
