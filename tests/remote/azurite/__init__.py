"""A container of Azurite, Azure's own emulator of Blob Storage."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Final

# The account that every Azurite has, with a key that is no secret.
ACCOUNT: Final = "devstoreaccount1"
ACCOUNT_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_LISTENING: Final = re.compile(r"listens on (http://[\d.:]+)")
_API_VERSION: Final = "2021-08-06"
_NUMBERS: Final = itertools.count()


@contextmanager
def running_azurite(node_modules: Path, folder: Path) -> Iterator[str]:
    """Run Azurite on a free port, and yield the address of its account."""
    program = node_modules / "azurite" / "dist" / "src" / "blob" / "main.js"
    flags = ("--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck")
    process = subprocess.Popen(
        ["node", str(program), *flags], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        found = next(filter(None, map(_LISTENING.search, process.stdout)), None)
        assert found is not None, "Azurite did not start."
        yield f"{found[1]}/{ACCOUNT}"
    finally:
        process.kill()
        process.communicate()


def make_container(address: str) -> str:
    """Create a container, and return its name. obstore cannot do this, so the request is signed here."""
    name = f"films-{next(_NUMBERS)}"
    date = formatdate(usegmt=True)
    fields = f"x-ms-date:{date}\nx-ms-version:{_API_VERSION}"
    signed = "\n".join(("PUT", *[""] * 11, fields, f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container"))
    digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256)
    signature = base64.b64encode(digest).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": _API_VERSION,
        "Content-Length": "0",
        "Authorization": f"SharedKey {ACCOUNT}:{signature}",
    }
    request = urllib.request.Request(f"{address}/{name}?restype=container", method="PUT", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 201
    return name


def azure_environment(address: str) -> dict[str, str]:
    """The variables of the account, as Azure's own tools and obstore read them."""
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
        "AZURE_STORAGE_ENDPOINT": address,
        "AZURE_ALLOW_HTTP": "true",
    }
