"""The program behind ``async-uploader`` in the shells of tests; see :mod:`harness.shells`.

It hands its arguments and streams to the process of the tests, which starts a fork with them. It forwards signals,
and ends as the fork ends. It imports next to nothing: Python's start takes most of its time.
"""

import _socket
import marshal
import os
import signal
import struct
import sys


def main() -> None:
    """Run the command with the arguments, streams, environment and directory of this process."""
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    server.connect(os.environ["FORKS_ADDRESS"])
    request = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ)))
    server.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("3i", 0, 1, 2))])
    pid = int(server.recv(64))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    code = int(server.recv(64))
    if code < 0:  # the number of the signal that killed the fork
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
