"""Django: an app that starts shipping, and a middleware.

>>> INSTALLED_APPS = ["shipper.integrations.django.ShipperConfig", …]
>>> MIDDLEWARE = ["shipper.integrations.django.ShipperMiddleware", …]     # the first one

The app calls `shipper.start` with what ``SHIPPER`` in the settings says (a dict: ``backends`` and keywords), once
Django has configured logging, so that ``LOGGING`` does not remove shipper's handlers. Without ``SHIPPER``, all
settings come from the environment. In ``manage.py runserver`` only the process that serves ships, not the one that
watches files.

The middleware puts request id, method, path, route and, if the user is loaded already, the user's id into every event.
It evaluates nothing lazy and sends no query. ``SHIPPER_REQUEST_HEADER`` in the settings is the header with the request
id (default ``X-Request-ID``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.conf import settings

from .. import start
from ..application.capture.surroundings import bind, bound
from .request import request_id


class ShipperConfig(AppConfig):  # type: ignore[misc] # Django has no types
    """Starts shipping when Django is set up."""

    name = "shipper.integrations.django"
    label = "shipper"
    verbose_name = "shipper"

    def ready(self) -> None:
        _begin()


def _begin() -> None:
    """Start, or attach again: some of Django's entry points configure logging a second time."""
    if not _only_watches():
        given = {"keep_attached": True, **getattr(settings, "SHIPPER", {})}
        start(*given.pop("backends", ()), **given)


def _only_watches() -> bool:
    """Whether this is the process of ``runserver`` that restarts the one that serves."""
    return "runserver" in sys.argv and "--noreload" not in sys.argv and os.environ.get("RUN_MAIN") != "true"


class ShipperMiddleware:
    """Binds a request's fields to its events, in synchronous and asynchronous middleware chains."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._header = getattr(settings, "SHIPPER_REQUEST_HEADER", "X-Request-ID")
        self._is_async = _is_coroutine_function(get_response)
        _begin()
        if self._is_async:
            _mark_as_coroutine_function(self)

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._answer_later(request)
        with bound(**self._fields(request)):
            response = self.get_response(request)
            _bind_answer(request)
            return response

    async def _answer_later(self, request: Any) -> Any:
        with bound(**self._fields(request)):
            return await self.get_response(request)

    def process_view(self, request: Any, view: object, arguments: object, named: object) -> None:
        """Bind the route, which is known now, and the user's id if the user is loaded already."""
        _bind_answer(request)

    def _fields(self, request: Any) -> dict[str, object]:
        return {
            "request_id": request_id(request.headers.get(self._header, "")),
            "method": request.method,
            "path": request.path,
        }


def _bind_answer(request: Any) -> None:
    match = getattr(request, "resolver_match", None)
    if match is not None:
        bind(route=match.route)
    # AuthenticationMiddleware caches the user here when `request.user` is first read; reading that may send a query.
    user = getattr(request, "_cached_user", None)
    if user is not None and getattr(user, "pk", None) is not None:
        bind(user_id=user.pk)


def _is_coroutine_function(function: object) -> bool:
    from asgiref.sync import iscoroutinefunction

    return bool(iscoroutinefunction(function))


def _mark_as_coroutine_function(function: Any) -> None:
    from asgiref.sync import markcoroutinefunction

    markcoroutinefunction(function)
