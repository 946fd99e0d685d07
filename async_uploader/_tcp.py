"""What the kernel knows of a connection, where it tells (Linux).

A whole part can sit in socket buffers: what ``write()`` took says little about what has arrived.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Final

# struct tcp_info: tcpi_rtt in microseconds, tcpi_bytes_acked and tcpi_bytes_received (since Linux 4.1).
_SIZE_BYTES: Final = 136
_LAYOUT: Final = struct.Struct("=68xI48xQQ")


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """A connection at one moment: its round trip, and what has been acknowledged and received in its life."""

    rtt_seconds: float
    acked_bytes: int
    received_bytes: int


def tcp_info(transport: asyncio.WriteTransport) -> TcpInfo | None:
    """Ask; None where there is nobody to ask."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or transport.is_closing():
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE_BYTES)
    except OSError:
        return None
    if len(info) < _SIZE_BYTES:
        return None
    rtt_microseconds, acked_bytes, received_bytes = _LAYOUT.unpack(info)
    return TcpInfo(rtt_microseconds / 1e6, acked_bytes, received_bytes)
