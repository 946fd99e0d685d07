"""Invalid TLS certificates: expired, not yet valid, for another host, of an unknown authority.

A command reports the problem in one message, does not retry and leaves nothing behind. An upload during which the
certificate becomes invalid can be resumed once it is valid again.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

import trustme

from .bench import Bench, Case, shuffled
from .counts import Findings
from .proxy import Request, proxied
from .workspace import PART_BYTES, Workspace, is_quiet, key_environment, upload_flags

NAME: Final = "certificates"

_HOST: Final = "127.0.0.1"


def _issued(authority: trustme.CA, host: str = _HOST, *, since: int = -10, until: int = 10) -> trustme.LeafCert:
    """A certificate that is valid from and until the given number of days from now."""
    now = datetime.now(UTC)
    return authority.issue_cert(
        host, not_before=now + timedelta(days=since), not_after=now + timedelta(days=until)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """What is wrong with a certificate.

    :ivar words: the message has one of these
    """

    issue: Callable[[trustme.CA], trustme.LeafCert]
    words: tuple[str, ...]


FLAWS: Final = {
    "expired": Flaw(issue=lambda ca: _issued(ca, since=-20, until=-1), words=("expired",)),
    "not yet valid": Flaw(
        issue=lambda ca: _issued(ca, since=1, until=20), words=("not yet valid", "not valid yet")
    ),
    "another host": Flaw(issue=lambda ca: _issued(ca, "example.org"), words=("mismatch", "not valid for")),
    "unknown authority": Flaw(
        issue=lambda _: _issued(trustme.CA()), words=("issuer", "self-signed", "self signed")
    ),
}
_COMMANDS: Final = {
    "upload": ("upload", "0.mp4"),
    "upload of several": ("upload", "0.mp4", "1.mp4"),
    "status": ("status", "viNone"),
    "delete": ("delete", "viNone"),
    "tokens": ("tokens", "list"),
}
#: The certificate is replaced, and connections are closed, while an upload is running.
_DURING_UPLOAD: Final = "during an upload"


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """All cases."""
    names = [f"{flaw}: {command}" for flaw, command in product(FLAWS, (*_COMMANDS, _DURING_UPLOAD))]
    yield from shuffled([case(_bench, name) for name in names], seed)


def case(_bench: Bench, name: str) -> Case:
    """The case with a name like ``expired: status``."""
    flaw, _, command = name.partition(": ")
    run = partial(_run_during_upload, flaw) if command == _DURING_UPLOAD else partial(_run, flaw, command)
    return Case(name=name, run=run)


class _Tls:
    """A server context whose certificate can be replaced, and the file with the trusted authority."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.trusted = folder / "trusted.pem"
        self.authority.cert_pem.write_to_path(str(self.trusted))

    def use(self, certificate: trustme.LeafCert) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chain.pem"
            path.write_bytes(
                certificate.private_key_pem.bytes() + b"".join(one.bytes() for one in certificate.cert_chain_pems)
            )
            self.context.load_cert_chain(path)

    @property
    def environment(self) -> dict[str, str]:
        return {**key_environment(), "SSL_CERT_FILE": str(self.trusted)}


def _run(flaw_name: str, command: str, bench: Bench, findings: Findings) -> None:
    flaw = FLAWS[flaw_name]
    with bench.service() as service, bench.workspace(findings) as workspace:
        tls = _Tls(workspace.folder)
        tls.use(flaw.issue(tls.authority))
        for number in range(2):
            workspace.copy(bench.source(1000, number), f"{number}.mp4")
        with proxied(service, tls=tls.context) as proxy:
            where = ("--base-url", f"https://{_HOST}:{proxy.port}")
            result = workspace.run(*_COMMANDS[command], *where, environment=tls.environment)
            max_errors = 2 if command == "upload of several" else 1
            findings.check(result.code == 1, f"unexpected {result.summary}")
            findings.check(
                1 <= len(result.errors) <= max_errors, f"{len(result.errors)} messages: {result.summary}"
            )
            for line in result.errors:
                findings.check(
                    "certificate" in line and any(word in line.lower() for word in flaw.words),
                    f"the message does not name the problem: {line}",
                )
            findings.check("Retrying in" not in result.err, f"the command retries: {result.summary}")
            findings.check(not proxy.requests, "the command sends a request")
        findings.check(not service.emulator.videos, "a container exists")
        workspace.check_journal_empty()


def _run_during_upload(flaw_name: str, bench: Bench, findings: Findings) -> None:
    flaw = FLAWS[flaw_name]
    source = bench.source(3 * PART_BYTES)
    with bench.service() as service, bench.workspace(findings) as workspace:
        tls = _Tls(workspace.folder)
        tls.use(_issued(tls.authority))

        async def replace(request: Request) -> None:
            if request.endpoint == "upload" and request.number == 3:
                tls.use(flaw.issue(tls.authority))
                proxy.cut_all()

        with proxied(service, on_request=replace, tls=tls.context) as proxy:
            where = ("--base-url", f"https://{_HOST}:{proxy.port}")
            command = ("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service), *where)
            _check_failure(workspace, tls, flaw, command)
            service.wait_for(is_quiet)
            tls.use(_issued(tls.authority))
            result = workspace.run(*command, environment=tls.environment)
            findings.check(result.code == 0, f"the next run does not recover: {result.summary}")
        workspace.check_videos(service, [source])
        workspace.check_journal_empty()


def _check_failure(workspace: Workspace, tls: _Tls, flaw: Flaw, command: tuple[object, ...]) -> None:
    findings = workspace.findings
    result = workspace.run(*command, environment=tls.environment)
    findings.check(result.code == 1, f"unexpected {result.summary}")
    findings.check(len(result.errors) == 1, f"{len(result.errors)} messages: {result.summary}")
    findings.check(
        any(word in result.err.lower() for word in flaw.words),
        f"the message does not name the problem: {result.summary}",
    )
