"""TLS that is not to be trusted: an expired certificate, one of another host, one that is not valid yet, …

A command says so in one message, tries nothing twice, and leaves nothing behind. An upload whose service gets such
a certificate in the middle can be resumed once that has been put right.
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

from .counts import Findings
from .harness import PART_BYTES, Bench, Case, Workspace, is_quiet, shuffled, upload_flags, with_key
from .proxy import Request, proxied

NAME: Final = "certificates"

_HOST: Final = "127.0.0.1"


def _issued(authority: trustme.CA, host: str = _HOST, *, since: int = -10, until: int = 10) -> trustme.LeafCert:
    """Valid from and until so many days from now."""
    now = datetime.now(UTC)
    return authority.issue_cert(
        host, not_before=now + timedelta(days=since), not_after=now + timedelta(days=until)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """What is wrong with a certificate.

    :ivar words: one of these is in the message
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
#: An upload that has begun when the certificate is replaced, and loses its connections.
_MIDDLE: Final = "in the middle"


def cases(_bench: Bench, seed: int) -> Iterator[Case]:
    """All of them."""
    names = [f"{flaw}: {command}" for flaw, command in product(FLAWS, (*_COMMANDS, _MIDDLE))]
    yield from shuffled([case(_bench, name) for name in names], seed)


def case(_bench: Bench, name: str) -> Case:
    """One by its name, as ``expired: status``."""
    flaw, _, command = name.partition(": ")
    run = partial(_run_middle, flaw) if command == _MIDDLE else partial(_run, flaw, command)
    return Case(name=name, run=run)


class _Tls:
    """A context whose certificate can be replaced, and the file by which its authority is trusted."""

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
        return {**with_key(), "SSL_CERT_FILE": str(self.trusted)}


def _run(flaw_name: str, command: str, bench: Bench, findings: Findings) -> None:
    flaw = FLAWS[flaw_name]
    with bench.service() as service, bench.workspace(findings) as workspace:
        tls = _Tls(workspace.folder)
        tls.use(flaw.issue(tls.authority))
        for number in range(2):
            workspace.copy(bench.source(1000, number), f"{number}.mp4")
        with proxied(service, tls=tls.context) as proxy:
            where = ("--base-url", f"https://{_HOST}:{proxy.port}")
            done = workspace.run(*_COMMANDS[command], *where, environment=tls.environment)
            most = 2 if command == "upload of several" else 1
            findings.check(done.code == 1, f"unexpected {done.last_words}")
            findings.check(1 <= len(done.errors) <= most, f"{len(done.errors)} messages: {done.last_words}")
            for line in done.errors:
                findings.check(
                    "certificate" in line and any(word in line.lower() for word in flaw.words),
                    f"the message does not tell: {line}",
                )
            findings.check("Retrying in" not in done.err, f"it tried again: {done.last_words}")
            findings.check(not proxy.requests, "a request went out")
        findings.check(not service.emulator.videos, "there is a container")
        workspace.check_journal_empty()


def _run_middle(flaw_name: str, bench: Bench, findings: Findings) -> None:
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
            _check_middle(workspace, tls, flaw, command)
            service.wait_for(is_quiet)
            tls.use(_issued(tls.authority))
            done = workspace.run(*command, environment=tls.environment)
            findings.check(done.code == 0, f"it does not recover: {done.last_words}")
        workspace.check_videos(service, [source])
        workspace.check_journal_empty()


def _check_middle(workspace: Workspace, tls: _Tls, flaw: Flaw, command: tuple[object, ...]) -> None:
    findings = workspace.findings
    done = workspace.run(*command, environment=tls.environment)
    findings.check(done.code == 1, f"unexpected {done.last_words}")
    findings.check(len(done.errors) == 1, f"{len(done.errors)} messages: {done.last_words}")
    findings.check(
        any(word in done.err.lower() for word in flaw.words), f"the message does not tell: {done.last_words}"
    )
