"""The emulator's certificate: issued at each start, by a certificate authority of its own."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: The names of this machine that every certificate has.
_NAMES: Final = ("localhost", "127.0.0.1", "::1")
#: Addresses that stand for all interfaces are not names that a client connects to.
_ALL_INTERFACES: Final = ("0.0.0.0", "::")  # noqa: S104
#: How long a client may take for the handshake.
HANDSHAKE_SECONDS: Final = 10.0


def check_tls() -> None:
    """Check that certificates can be made.

    :raises ValueError: trustme is not installed
    """
    try:
        import trustme  # noqa: F401, PLC0415
    except ImportError:
        raise ValueError("TLS needs the package trustme. Install async-uploader[tls].") from None


def create_context(ca_file: Path, hosts: Iterable[str]) -> ssl.SSLContext:
    """Make a certificate authority and a certificate, and write the authority's certificate to a file. Blocks.

    :param hosts: names and addresses for the certificate, besides those of this machine
    :raises OSError: the file cannot be written
    """
    import trustme  # noqa: PLC0415

    authority = trustme.CA(organization_name="api.video emulator")
    names = dict.fromkeys([*_NAMES, *(host for host in hosts if host not in _ALL_INTERFACES)])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    authority.cert_pem.write_to_path(str(ca_file))
    return context
