"""A few cases of each sweep, and tests that sweeps detect what is wrong.

``python -m benchmarks.soak --sweep all`` runs all cases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from harness.forking import Forks
from harness.sweeps.bench import Bench, Case, benches
from harness.sweeps.child import Injection, Instructions
from harness.sweeps.counts import Counts, Findings, Kind, table
from harness.sweeps.proxy import Request, Response, proxied
from harness.sweeps.runner import SWEEPS, SweepRun
from harness.sweeps.workspace import is_quiet, upload_flags


@pytest.fixture(scope="session")
def bench(forks: Forks) -> Iterator[Bench]:
    """One bench for all tests."""
    with benches(1, forks=forks) as found:
        yield found[0]


CASES = [
    ("kills", "key 1 part: before Journal.find 1"),
    ("kills", "key 1 part --json: after Journal.begin 1"),
    ("kills", "key 4 parts: after Journal.acknowledge 2"),
    ("kills", "key 4 parts --resume: before Service.get_status 1"),
    ("kills", "key 4 parts --resume: after Service.update_video 1"),
    ("kills", "key 3 files --results: after ResultsFile.append 2"),
    ("kills", "token 1 part: before Journal.begin 1"),
    ("kills", "key 1 part --idempotency-key: after Service.create_video 1"),
    ("kills", "key 4 parts --idempotency-key elsewhere: before Service.list_videos 3"),
    ("kills", "key 4 parts --idempotency-key elsewhere: after Service.send_part 2"),
    ("kills", "key 1 part --resume elsewhere: before Service.update_video 1"),
    ("kills", "key 4 parts elsewhere s3: after Service.send_part 2"),
    ("kills", "key 4 parts --key-from-source elsewhere web: after RemotePartReader.fetch 3"),
    ("machines", "17"),
    ("cancellations", "Ctrl-C default 2 parts 80 ms: during Http.exchange 3"),
    ("cancellations", "SIGTERM --resume 1 part 300 ms: after Http.exchange 4"),
    ("cancellations", "cancel() --no-resume 1 part 80 ms: during Http.exchange 3"),
    ("clocks", "400 days jumps during Service.send_part 1, short tokens"),
    ("clocks", "-50 years between runs, killed after Journal.acknowledge 1, limited"),
    ("deletes", "delete, no fault, killed during Service.delete_video 1"),
    ("deletes", "upload --no-resume, response lost, not killed"),
    ("certificates", "expired: upload"),
    ("certificates", "expired: during an upload"),
    ("journal", "0"),
    ("responses", "0"),
    ("terminals", "0"),
]


#: Regressions.
FIXED = [
    ("kills", "key 1 part: before Journal.begin 1"),
    ("kills", "key 1 part --json: before output 2"),
    ("kills", "key 3 files: before Journal.begin 2"),
    ("kills", "key 3 files --json: before output 3"),
    ("kills", "token 1 part: before output 2"),
    ("kills", "token 4 parts: before Journal.acknowledge 3"),
    ("kills", "token 3 files --results: after Journal.acknowledge 3"),
    ("cancellations", "Ctrl-C --no-resume 1 part 300 ms: before Http.exchange 2"),
    ("cancellations", "SIGTERM default 2 parts 300 ms: during Http.exchange 2"),
    ("cancellations", "cancel() default 2 parts 80 ms: after Http.exchange 1"),
    ("clocks", "3 days between runs, killed after Service.create_video 1, free"),
    ("deletes", "forget --delete, no fault, killed after Service.delete_video 1"),
    ("machines", "1019"),
    *(("journal", str(seed)) for seed in (2, 39, 65, 107, 114, 2050)),
    *(("responses", str(seed)) for seed in (23, 59, 84, 149, 208, 264)),
    *(("batch", str(seed)) for seed in (0, 4)),
]


@pytest.mark.parametrize(("sweep", "case"), CASES + FIXED)
def test_case(sweep: str, case: str, bench: Bench) -> None:
    """The case has no findings."""
    findings = bench.run(SWEEPS[sweep].case(bench, case))
    assert not findings.all, str(findings)
    assert findings.runs


def test_all_calls_are_hooked(bench: Bench) -> None:
    """Calls into journal, service, results, locks and output. A renamed method fails here instead of being
    skipped.
    """
    findings = Findings()
    with bench.service() as service, bench.workspace(findings) as workspace:
        record = workspace.folder / "calls"
        names = [workspace.copy(bench.source(1000, number), f"{number}.mp4").name for number in range(2)]
        command = ("upload", *names, *upload_flags(service, "--results", "results.jsonl"))
        assert workspace.run(*command, instructions=Instructions(record=str(record))).code == 0
        calls = Counter(record.read_text().split())
    assert not findings.all
    once_a_file = {
        "Journal.begin",
        "Journal.acknowledge",
        "Service.create_video",
        "Service.send_part",
        "ResultsFile.append",
    }
    assert {call for call, count in calls.items() if count == 2} >= once_a_file
    assert calls["lock.acquire"] >= 3
    assert calls["output"]


@pytest.mark.parametrize(("action", "code"), [("kill", -9), ("interrupt", 130), ("terminate", 130), ("clock", 0)])
def test_injections(action: str, code: int, bench: Bench) -> None:
    """A command ends at the given call, in the given way."""
    findings = Findings()
    with bench.service() as service, bench.workspace(findings) as workspace:
        name = workspace.copy(bench.source(1000), "0.mp4").name
        injection = Injection(call="Service.send_part", number=1, moment="before", action=action)  # type: ignore[arg-type]
        result = workspace.run(
            "upload", name, *upload_flags(service), instructions=Instructions(injections=(injection,))
        )
        assert result.code == code
        service.wait_for(is_quiet)
        assert [view.received_bytes > 0 for view in service.emulator.videos.values()] == [not code]


def test_wrong_videos_are_found(bench: Bench) -> None:
    """Duplicates, empty containers and missing files."""
    findings = Findings()
    with bench.service("upload,times=1:cut") as service, bench.workspace(findings) as workspace:
        source = bench.source(1000)
        command = ("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service))
        injection = Injection(call="Service.create_video", number=1, moment="after")
        for instructions in (Instructions(injections=(injection,)), Instructions(), Instructions()):
            workspace.run(*command, instructions=instructions)
        service.request(lambda client: client.create_video(title="empty"))
        workspace.check_videos(service, [source, bench.source(2000)])
        kinds = Counter(finding.kind for finding in findings.all)
    assert kinds[Kind.DUPLICATE] == 1
    assert kinds[Kind.ORPHAN] >= 1
    assert kinds[Kind.WRONG] == 1


def test_hangs_and_tracebacks_are_found(bench: Bench) -> None:
    """A command that does not end, and a traceback."""
    findings = Findings()
    with bench.service("upload:stall=forever") as service, bench.workspace(findings) as workspace:
        name = workspace.copy(bench.source(1000), "0.mp4").name
        process = workspace.start("upload", name, *upload_flags(service, "--stall-timeout", "60"))
        workspace.finish(process, seconds=1)
        workspace.check_traceback("Traceback (most recent call last):\nValueError", "a command")
    assert [finding.kind for finding in findings.all] == [Kind.HANG, Kind.TRACEBACK]


def test_proxy_forwards(bench: Bench) -> None:
    """Through a proxy that changes nothing, an upload succeeds. The proxy knows the file of each request."""
    findings = Findings()
    seen: list[tuple[str, str | None, str]] = []

    def record(request: Request, response: Response) -> Response:
        seen.append((request.endpoint, request.title, response.status))
        return response

    with bench.service() as service, bench.workspace(findings) as workspace, proxied(service, record) as proxy:
        source = bench.source(2 * 5 * 1024 * 1024)
        where = ("--base-url", f"http://127.0.0.1:{proxy.port}")
        result = workspace.run("upload", workspace.copy(source, "0.mp4").name, *upload_flags(service), *where)
        assert result.code == 0, result.summary
        workspace.check_videos(service, [source])
    assert not findings.all
    assert {("auth", None, "200"), ("create", "0.mp4", "201"), ("status", "0.mp4", "200")} <= set(seen)
    assert [endpoint for endpoint, *_ in seen].count("upload") == 2


def test_counts() -> None:
    """One row per sweep, one column per kind of finding, and the command that repeats a failure."""

    def fail(_: Bench, findings: Findings) -> None:
        findings.runs += 3
        findings.add(Kind.BYTES_SENT_AGAIN, "sent again", 1000)

    with benches(1) as found:
        run = SweepRun("kills")
        run.run(iter([Case(name="a case", run=fail), Case(name="another", run=lambda *_: None)]), found)
    assert run.failures[0].replay == 'python -m benchmarks.soak --sweep kills --case "a case"'
    assert not run.counts.is_good
    head, line, _ = table([("kills", run.counts), ("none", Counts())][:1]).splitlines()
    assert head.split()[:4] == ["sweep", "cases", "runs", "tracebacks"]
    assert line.split() == ["kills", "2", "3", "0", "0", "0", "0", "1,000", "0"]
