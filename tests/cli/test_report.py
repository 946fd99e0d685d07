"""`--report`: the page about uploads."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from playwright.sync_api import sync_playwright

from async_uploader import ConfigurationError, SourceError, events
from async_uploader.cli._bounds import bound_rows, bound_sentence
from async_uploader.cli._report import MAX_UPLOADS, ReportRecorder, open_report
from async_uploader.cli._report_page import render_page
from async_uploader.emulator import Fault
from harness.service import KEY, Service

from .conftest import MIB, Cli, StartCli, within

MakeFile = Callable[..., Path]
StartService = Callable[..., AbstractContextManager[Service]]


def figures_of(text: str) -> list[dict[str, Any]]:
    """The charts of the page."""
    match = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    assert match
    figures: list[dict[str, Any]] = json.loads(match[1])
    return figures


def cells_of(text: str) -> dict[str, str]:
    """The rows of the tables."""
    return dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", text))


def test_report_of_an_upload(start_service: StartService, cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    """Attempts by connection and outcome, retries and waits with reasons, throughput, plan and totals."""
    faults = [Fault.parse("part=2,attempt=1:cut,when=middle"), Fault.parse("create,times=1:status=503")]
    with start_service(faults=faults, rate_limit=3, rate_window=2.0) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        path = make_file("movie.mp4", 22 * MIB)
        done = cli("upload", path, "--part-size=5MiB", "--report=r.html", **settings)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r.html").read_text()
    assert KEY not in text
    sentence = re.search(r"Report: r\.html\n(Bound by: .+ \(\d+ % of the time\))\n", done.stderr)
    assert sentence, done.stderr
    assert f"<p>{sentence[1]}</p>" in text
    (figure,) = figures_of(text)
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert len(traces["stored"]["x"]) == 5
    assert len(traces["unknown"]["x"]) == 1
    assert set(traces["stored"]["y"]) <= {f"connection {number}" for number in range(1, 7)}
    assert all(length > 0 for length in traces["stored"]["x"])
    assert "connection was lost" in traces["unknown"]["hovertext"][0]
    retries = dict(zip(traces["retry"]["y"], traces["retry"]["hovertext"], strict=True))
    assert "create" in retries["other requests"]
    assert "503" in retries["other requests"]
    assert any("part 2" in reason for row, reason in retries.items() if row == traces["unknown"]["y"][0])
    assert traces["rate limit wait"]["x"]
    assert max(traces["parts in flight"]["y"]) >= 1
    assert traces["concurrency limit"]["line"]["dash"] == "dot"
    moments, rates = traces["throughput"]["x"], traces["throughput"]["y"]
    width = (moments[-1] - moments[0]) / (len(moments) - 1)
    assert sum(rates) * width == pytest.approx(22, rel=0.02)
    cells = cells_of(text)
    assert (cells["size"], cells["parts"], cells["part size"]) == ("22 MiB", "5", "5 MiB")
    assert cells["concurrency"] == "adaptive, up to 32"
    assert cells["stored"] == "22 MiB in 5 parts"
    assert (cells["retries"], cells["failed attempts"]) == ("2", "1, 5 MiB")


def test_the_report_has_the_final_plan(
    start_service: StartService, cli: Cli, make_file: MakeFile, tmp_path: Path
) -> None:
    """The rate limit of the account led to larger parts than planned at first."""
    with start_service(rate_limit=6, rate_window=1.0) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        assert cli("upload", make_file("movie.mp4", 60 * MIB), "--report=r.html", **settings).returncode == 0
    cells = cells_of((tmp_path / "r.html").read_text())
    assert (cells["parts"], cells["part size"], cells["stored"]) == ("6", "10 MiB", "60 MiB in 6 parts")


def test_the_page_is_self_contained(online: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    """It loads no other resource, and file names cannot become markup."""
    name = "</script><b>x & y<!--plotly-->.mp4"
    (tmp_path / "sub").mkdir()
    path = make_file("plain.mp4", 10).rename(tmp_path / name.replace("/", "⁄"))
    assert online("upload", path, "--report", "sub/r.html", "--quiet").stderr == ""
    text = (tmp_path / "sub" / "r.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", text)
    assert text.count("</script>") == text.count("<script")
    assert "&lt;b&gt;x &amp; y&lt;!--plotly--&gt;.mp4" in text
    assert "<b>x &" not in text
    assert [each.name for each in (tmp_path / "sub").iterdir()] == ["r.html"]


def test_one_timeline_of_all_files(online: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    """The last chart has the parts of all files; all charts have the same time axis."""
    paths = [make_file(name, 6 * MIB) for name in ("a.mp4", "b.mp4", "c.mp4")]
    command = ("upload", *paths, "--report=r.html", "--part-size=5MiB", "--concurrency=1")
    assert online(*command).returncode == 0
    *figures, everything = figures_of((tmp_path / "r.html").read_text())
    assert len(figures) == 3
    assert len({tuple(figure["layout"]["xaxis"]["range"]) for figure in (*figures, everything)}) == 1
    stored = [
        {text: base for trace in figure["data"] if trace["name"] == "stored"
         for text, base in zip(trace["hovertext"], trace["base"], strict=True)}
        for figure in (*figures, everything)
    ]  # fmt: skip
    assert stored[-1] == stored[0] | stored[1] | stored[2]
    assert len(stored[-1]) == 6
    assert {text.partition("<br>")[0] for text in stored[-1]} == {"<b>a.mp4</b>", "<b>b.mp4</b>", "<b>c.mp4</b>"}


def test_the_page_in_a_browser(online: Cli, make_file: MakeFile, tmp_path: Path, chromium: str) -> None:
    """The chart of the first file is drawn, without network. At 390 pixels, as on a phone, neither the page nor a
    label of a chart is cut off.
    """
    paths = [make_file(name, 11 * MIB) for name in ("a.mp4", f"a-long-name-{'x' * 60}.mp4")]
    assert online("upload", *paths, "--report=r.html", "--part-size=5MiB").returncode == 0
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
        page.goto((tmp_path / "r.html").as_uri())
        page.wait_for_selector(".plot-container")
        page.locator(".point").nth(2).wait_for(state="attached")
        assert "connection 1" in page.content()
        assert page.locator('a[href^="#upload-"]').count() == 2
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        lefts = page.evaluate(
            "[...document.querySelectorAll('.ytick text')].map((e) => e.getBoundingClientRect().left)"
        )
        assert min(lefts) >= 0
        browser.close()


def test_a_report_of_a_failure(online: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    """It has the error; the exit code is 1."""
    service.portal.call(service.emulator.add_fault, Fault.parse("part=2:problem=uploaded-file-invalid-file"))
    done = online("upload", make_file("movie.mp4", 11 * MIB), "--part-size=5MiB", "--report=r.html")
    assert done.returncode == 1
    text = (tmp_path / "r.html").read_text()
    assert re.search('class="error">.*The service responded with 400', text)
    assert "refused" in {trace["name"] for trace in figures_of(text)[0]["data"]}


def test_a_report_of_an_interrupted_upload(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile, tmp_path: Path
) -> None:
    """Ctrl-C ends the command within a second. Only then is the page of an earlier run replaced."""
    (tmp_path / "r.html").write_text("the one before")
    with start_service(connection_rate=10_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        path = make_file("movie.mp4", 100 * MIB, sparse=True)
        process = start_cli("upload", path, "--report=r.html", "--part-size=5MiB", **settings)
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        assert (tmp_path / "r.html").read_text() == "the one before"
        with within(1):
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=10)
    assert process.returncode == 130
    text = (tmp_path / "r.html").read_text()
    assert 'class="error">cancelled' in text
    assert "cancelled" in {trace["name"] for trace in figures_of(text)[0]["data"]}


REFUSED = {
    "missing directory": ("missing/r.html", "there is no directory"),
    "directory": ("folder", "it is a directory"),
}


@pytest.mark.parametrize(("report", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_report_that_cannot_be_written(
    online: Cli, service: Service, make_file: MakeFile, tmp_path: Path, report: str, reason: str
) -> None:
    """One message, and nothing is sent."""
    (tmp_path / "folder").mkdir()
    done = online("upload", make_file("movie.mp4", 10), "--report", report)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Cannot write the report to {report}: {reason}")
    assert not service.emulator.requests


def test_without_plotly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install. With plotly, the directory must be writable."""
    monkeypatch.delattr("async_uploader.cli._report_page", raising=False)
    monkeypatch.delitem(sys.modules, "async_uploader.cli._report_page", raising=False)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'async-uploader\[report\]'"):
        open_report(tmp_path / "r.html")
    monkeypatch.undo()
    open_report(tmp_path / "r.html")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SourceError, match="permission denied"):
        open_report(tmp_path / "r.html")


def test_very_many_uploads(tmp_path: Path) -> None:
    """The first 50 have sections; the others are counted, and none of their events is kept."""
    report = ReportRecorder()
    for number in range(1, MAX_UPLOADS + 31):
        for moment, event in enumerate(
            (
                events.UploadBegan(total_bytes=1, parts_total=1, part_bytes=1, concurrency=1, adapts=False),
                events.UploadEnded(video_id="vi1", outcome=events.UploadOutcome.FINISHED, error=None),
            )
        ):
            fields: dict[str, Any] = {"upload": number, "source": f"{number}.mp4", "at_seconds": 1.0 * moment}
            report(replace(event, **fields))
    assert len(report.timelines) == MAX_UPLOADS
    report.write(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    # One more for all uploads together.
    assert len(figures_of(text)) == text.count("<details") == MAX_UPLOADS + 1
    assert "30 more uploads are not shown." in text


def test_names_that_are_not_utf8_and_streams() -> None:
    """A file name that is not UTF-8, and a source of unknown size."""
    began = events.UploadBegan(
        source="latin-\udce9.mp4",
        total_bytes=None,
        parts_total=None,
        part_bytes=5 * MIB,
        concurrency=2,
        adapts=True,
    )
    text = render_page([[began]])
    assert text.encode()
    assert cells_of(text)["size"] == "unknown at the start"
    assert "The upload had not ended when the report was written." in text


def test_sentences_about_bounds() -> None:
    """The largest bound of all uploads together, in the words of the command line."""
    first = events.UploadMeasured(
        upload=1, seconds=1.0, shares={events.Bound.SOURCE: 1.0}, receive_window_share=0.25
    )
    second = events.UploadMeasured(
        upload=2, seconds=3.0, shares={events.Bound.BANDWIDTH_LIMIT: 0.8266, events.Bound.SOURCE: 0.1734}
    )
    assert bound_sentence([]) is None
    assert bound_sentence([[]]) is None
    assert bound_sentence([[first]]) == "Bound by: source (100 % of the time)"
    assert bound_sentence([[first], [second]]) == "Bound by: --limit-rate (62 % of the time)"
    rows = dict(bound_rows([[first]]))
    assert rows["source"].startswith("100 %: waiting for bytes")
    assert rows["receive window full"] == "25 % of the time with data in flight"
    assert set(dict(bound_rows([[first], [second]]))) == {"--limit-rate", "source"}


def test_every_bound_is_explained() -> None:
    for bound in events.Bound:
        (row,) = bound_rows([[events.UploadMeasured(seconds=1.0, shares={bound: 1.0})]])
        assert row[1].startswith("100 %: ")
