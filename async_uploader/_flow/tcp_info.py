"""What the kernel knows of a connection, where it tells (Linux).

A whole part can sit in socket buffers: what ``write()`` took says little about what has arrived.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final

from msgspec import Struct

# struct tcp_info: tcpi_bytes_acked, tcpi_bytes_received, and tcpi_min_rtt in microseconds (since Linux 4.6).
_SIZE_BYTES: Final = 152
_LAYOUT: Final = struct.Struct("=120xQQ12xI")
_UNKNOWN: Final = 0xFFFFFFFF


class TcpInfo(Struct, frozen=True):
    """A connection at one moment: what has been acknowledged and received in its life.

    :ivar rtt_seconds: the shortest round trip of late: a longer one is a queue on the way, and none of the line's
    """

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
    acked_bytes, received_bytes, rtt_microseconds = _LAYOUT.unpack(info)
    return TcpInfo(0.0 if rtt_microseconds == _UNKNOWN else rtt_microseconds / 1e6, acked_bytes, received_bytes)
