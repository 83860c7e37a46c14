"""The properties of a TrakerrClient: what is in every event that does not set it itself."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any, overload

from ..backends.wire.trakerr_event import environment
from .arguments import list_tags


class Default:
    """A property: a str, or None to send nothing. ``del`` makes it None."""

    def __init__(self, key: str) -> None:
        self._key = key

    @overload
    def __get__(self, client: None, owner: type[object]) -> Default: ...
    @overload
    def __get__(self, client: ClientDefaults, owner: type[object]) -> str | None: ...
    def __get__(self, client: ClientDefaults | None, owner: type[object]) -> Default | str | None:
        return self if client is None else client._values[self._key]

    def __set__(self, client: ClientDefaults, value: str | None) -> None:
        client._values[self._key] = value

    def __delete__(self, client: ClientDefaults) -> None:
        client._values[self._key] = None


class Tags:
    """The client's own list of tags. Any iterable of str may be set, or one str; None sends no tags."""

    @overload
    def __get__(self, client: None, owner: type[object]) -> Tags: ...
    @overload
    def __get__(self, client: ClientDefaults, owner: type[object]) -> list[str]: ...
    def __get__(self, client: ClientDefaults | None, owner: type[object]) -> Tags | list[str]:
        if client is None:
            return self
        return client._tags if client._tags is not None else []

    def __set__(self, client: ClientDefaults, value: Iterable[str] | None) -> None:
        client._tags = None if value is None else list_tags("context_tags", value)

    def __delete__(self, client: ClientDefaults) -> None:
        client._tags = None


class ClientDefaults:
    """The properties under their names, and under those that trakerr-python's code had for them."""

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

    def __init__(self, version: str, stage: str, sku: str, tags: Iterable[str] | None) -> None:
        self._tags: list[str] | None = list_tags("tags", () if tags is None else tags)
        self._values: dict[str, str | None] = {
            "contextAppVersion": version,
            "deploymentStage": stage,
            **environment(),
            "contextEnvHostname": platform.node(),
            "contextAppBrowser": None,
            "contextAppBrowserVersion": None,
            "contextDataCenter": None,
            "contextDataCenterRegion": None,
            "contextAppSku": sku,
        }

    def defaults(self) -> dict[str, Any]:
        """A copy of the properties by their keys on the wire; what is None is not sent."""
        tags = None if self._tags is None else list(self._tags)
        sku = self._values["contextAppSku"]
        return {**self._values, "contextTags": tags, "contextAppSku": None if sku == "" else sku}
