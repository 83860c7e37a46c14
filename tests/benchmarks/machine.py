"""What the numbers were measured on: processor, kernel, Python, versions of the compared packages."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from shipper import __version__

PACKAGES = (
    "loguru", "Logbook", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http",
    "python-logstash-async", "sentry-sdk", "logzio-python-handler", "requests", "urllib3", "msgpack",
)  # fmt: skip


def facts() -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "nginx": _nginx(),
        "load at start": round(os.getloadavg()[0], 2),
        "versions": {"shipper": __version__, **{name: _version(name) for name in PACKAGES}},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _nginx() -> str:
    try:
        return (
            subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
            .stderr.strip()
            .rpartition("/")[2]
        )
    except OSError:
        return "not installed"
