"""A real TCP link with a limited rate: a network namespace whose loopback interface is shaped by the kernel.

The emulator limits rates by reading slowly, so the receiver's window is what limits a sender. Here, packets wait
in the queue of an interface, and are dropped if it is full, as on a router. Client and server run in the
namespace.

No privileges are needed where the kernel lets users create user namespaces; otherwise, root is. The commands
`unshare` and `nsenter` are in the package util-linux, `ip` and `tc` in iproute2.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from typing import Final, Self

_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"
_NAMESPACES: Final = ("--user", "--map-root-user", "--net")
# The token bucket has to hold the largest packet, which segmentation offload makes 64 KiB, and what arrives
# between two ticks of the kernel.
_MIN_BURST_BYTES: Final = 128 * 1024
_TICKS_PER_SECOND: Final = 100
# The longest time that a packet waits in the queue.
_QUEUE_MILLISECONDS: Final = 100
_SECONDS: Final = 10.0


class NoShapedLink(Exception):
    """This machine cannot shape a link. The message says why."""


class ShapedLink:
    """A link. Use as a context manager; start its programs with :attr:`prefix` before their commands.

    :param bytes_per_second: the rate of the link
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = int(bytes_per_second)
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        burst_bytes = max(_MIN_BURST_BYTES, self._bytes_per_second // _TICKS_PER_SECOND)
        commands = (
            "ip link set lo up && "
            f"tc qdisc add dev lo root tbf rate {self._bytes_per_second}bps burst {burst_bytes} "
            f"latency {_QUEUE_MILLISECONDS}ms && echo ready && exec cat"
        )
        # It holds the namespace until its input ends.
        self._holder = subprocess.Popen(
            ["unshare", *_NAMESPACES, "sh", "-c", f"PATH={_PATH}; {commands}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            _, errors = self._holder.communicate(timeout=_SECONDS)
            raise NoShapedLink(errors.strip() or "the namespace was not created")
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder is not None:
            self._holder.communicate(timeout=_SECONDS)

    @property
    def prefix(self) -> list[str]:
        """The beginning of a command that runs in the namespace."""
        assert self._holder is not None, "used outside of its context"
        return ["nsenter", "--preserve-credentials", "--user", "--net", f"--target={self._holder.pid}"]


@cache
def why_no_shaped_link() -> str | None:
    """Why this machine cannot shape a link; None if it can."""
    if sys.platform != "linux":
        return "a shaped link needs Linux"
    missing = [name for name in ("unshare", "nsenter", "ip", "tc") if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"a shaped link needs {', '.join(missing)} (packages util-linux and iproute2)"
    try:
        with ShapedLink(1_000_000) as link:
            subprocess.run([*link.prefix, "true"], check=True, capture_output=True, text=True)
    except NoShapedLink as exc:
        return f"this machine cannot shape a link: {exc}"
    except subprocess.CalledProcessError as exc:
        return f"this machine cannot shape a link: {exc.stderr.strip()}"
    return None
