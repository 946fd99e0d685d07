"""Versions and hardware of the measurement. Nothing identifies the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import ssl
import subprocess

from .units import GIB

_PACKAGES = ("async-uploader", "aiohttp", "aiofiles", "anyio", "api.video", "requests", "urllib3")


def describe() -> dict[str, str | int | float]:
    """Versions, hardware, and the load before the measurement."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count() or 0,
        "memory_gib": round(pages / GIB, 1),
        "architecture": platform.machine(),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "curl": _version("curl", "--version"),
        "nginx": _version("nginx", "-v") or _version("/usr/sbin/nginx", "-v"),
        **{name: _installed(name) for name in _PACKAGES},
        "load_before": round(os.getloadavg()[0], 2),
    }


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _version(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    found = re.search(r"\d+(\.\d+)+", result.stdout + result.stderr)
    return found[0] if found else ""
