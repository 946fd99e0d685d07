"""The kernel's counters of a TCP connection, on Linux.

``write()`` accepts bytes long before they are delivered: a whole part can wait in socket buffers.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Final

from msgspec import Struct

# struct tcp_info: tcpi_unacked, tcpi_bytes_acked, tcpi_bytes_received, tcpi_notsent_bytes, and tcpi_min_rtt in
# microseconds (since Linux 4.6).
_SIZE_BYTES: Final = 152
_LAYOUT: Final = struct.Struct("=24xI92xQQ8xII")
_UNKNOWN: Final = 0xFFFFFFFF
# tcpi_busy_time and tcpi_rwnd_limited in microseconds (since Linux 4.10).
_TIMES_OFFSET_BYTES: Final = 168
_TIMES_LAYOUT: Final = struct.Struct("=QQ")


class TcpInfo(Struct, frozen=True):
    """Counters of a connection since it was opened.

    :ivar rtt_seconds: shortest recent round-trip time, 0 if unknown. Longer ones include queues on the path
    :ivar acked_bytes: bytes sent and acknowledged by the peer
    :ivar received_bytes: bytes received
    :ivar is_drained: whether the peer has acknowledged everything that was written
    """

    rtt_seconds: float
    acked_bytes: int
    received_bytes: int
    is_drained: bool


def tcp_info(transport: asyncio.WriteTransport) -> TcpInfo | None:
    """Read the counters of a connection; None if it is closing or the system has none."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or transport.is_closing():
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE_BYTES)
    except OSError:
        return None
    if len(info) < _SIZE_BYTES:
        return None
    unacked_segments, acked_bytes, received_bytes, unsent_bytes, rtt_microseconds = _LAYOUT.unpack(info)
    return TcpInfo(
        rtt_seconds=0.0 if rtt_microseconds == _UNKNOWN else rtt_microseconds / 1e6,
        acked_bytes=acked_bytes,
        received_bytes=received_bytes,
        is_drained=not (unacked_segments or unsent_bytes),
    )


class SendTimes(Struct, frozen=True):
    """Times of a connection since it was opened.

    :ivar busy_seconds: with data in flight
    :ivar receiver_seconds: of these, the time in which the receiver's window was full
    """

    busy_seconds: float
    receiver_seconds: float


def send_times(transport: asyncio.WriteTransport) -> SendTimes | None:
    """Read the times of a connection; None if it is closing or the system has none."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or transport.is_closing():
        return None
    size_bytes = _TIMES_OFFSET_BYTES + _TIMES_LAYOUT.size
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size_bytes)
    except OSError:
        return None
    if len(info) < size_bytes:
        return None
    busy_microseconds, receiver_microseconds = _TIMES_LAYOUT.unpack_from(info, _TIMES_OFFSET_BYTES)
    return SendTimes(busy_microseconds / 1e6, receiver_microseconds / 1e6)
