"""Creates a certificate authority and a server certificate for one run of the suite.

python -m benchmarks.certificates FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import trustme


def main() -> None:
    """Write ``ca.pem`` and ``server.pem`` (key and chain) into a folder."""
    folder = Path(sys.argv[1])
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        folder / "server.pem"
    )


if __name__ == "__main__":
    main()
