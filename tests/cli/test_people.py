"""The output on a terminal, and without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from async_uploader.cli._text import cell_width, shorten, wrap
from async_uploader.cli._video_table import VideoRow, format_rows, supports_hyperlinks
from harness.forking import Forks
from harness.service import KEY, Service
from harness.terminal import Terminal, at_terminal

from .conftest import Cli
from .test_upload import StartService

SIZES = {"c.mp4": 3_000_000, "a much longer name of a file.mp4": 10, "b.mp4": 10}


def run(
    forks: Forks, service: Service, folder: Path, arguments: list[str], *, columns: int = 80, hyperlinks: str = "0"
) -> Terminal:
    """Run an upload in a terminal to its end."""
    with at_terminal(
        forks,
        ["upload", "--quiet", *arguments],
        folder,
        columns=columns,
        APIVIDEO_BASE_URL=service.emulator.url,
        APIVIDEO_API_KEY=KEY,
        FORCE_HYPERLINK=hyperlinks,
    ) as terminal:
        assert terminal.finish() == 0
    return terminal


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, size_bytes in SIZES.items():
        (tmp_path / name).write_bytes(bytes(size_bytes))
    return list(SIZES)


@pytest.mark.parametrize("columns", [80, 200])
def test_a_table_in_the_order_of_the_command(
    forks: Forks, service: Service, tmp_path: Path, files: list[str], columns: int
) -> None:
    """Title, address and id, in columns if they fit, although the first file is finished last."""
    lines = run(forks, service, tmp_path, files, columns=columns).last.splitlines()
    ids = {video.title: video.video_id for video in service.emulator.videos.values()}
    if columns == 80:
        expected = [text for name in files for text in (name, f"  {player(service, ids[name])}", f"  {ids[name]}")]
        assert lines == expected
    else:
        assert [re.split(r" {2,}", line) for line in lines] == [
            [name, player(service, ids[name]), ids[name]] for name in files
        ]
        assert len({line.index("http") for line in lines}) == 1


def test_bars_in_the_order_of_the_command(forks: Forks, start_service: StartService, tmp_path: Path) -> None:
    """Also when new rows replace finished ones."""
    names = [f"{number}.mp4" for number in range(9)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes(1_500_000 * (1 + number % 3)))
    with start_service(connection_rate=3_000_000) as service:
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        command = ["upload", *reversed(names), "--concurrency", "3"]
        with at_terminal(forks, command, tmp_path, columns=80, rows=24, stdout=None, **environment) as terminal:
            assert terminal.finish() == 0
    rows = [
        [int(line[0]) for line in screen if re.match(r"\d\.mp4 .*[━─·]{3}", line)] for screen in terminal.screens
    ]
    assert max(map(len, rows)) >= 3
    assert all(found == sorted(found, reverse=True) for found in rows)


def player(service: Service, video_id: str) -> str:
    return f"{service.emulator.url}/embed/vod/{video_id}"


def test_commands_that_print_one_video_at_a_time(
    forks: Forks, service: Service, tmp_path: Path, files: list[str]
) -> None:
    """`watch` does not wait for its end, and `import` has the same layout."""
    url = service.emulator.url
    watch = ["watch", ".", "--settle", "0.1", "--include", files[0]]
    with at_terminal(forks, watch, tmp_path, APIVIDEO_BASE_URL=url, APIVIDEO_API_KEY=KEY) as terminal:
        screen = terminal.read_until(lambda screen: any("embed/vod" in line for line in screen))
    (video_id,) = service.emulator.videos
    row = next(number for number, line in enumerate(screen) if "embed/vod" in line)
    assert screen[row - 1 : row + 1] == [files[0], f"  {player(service, video_id)}"]
    clone = ["import", video_id, "--title", "Clone"]
    with at_terminal(forks, clone, tmp_path, columns=200, APIVIDEO_BASE_URL=url, APIVIDEO_API_KEY=KEY) as terminal:
        assert terminal.finish() == 0
    (other,) = set(service.emulator.videos) - {video_id}
    assert terminal.last.split() == ["Clone", player(service, other), other]


def test_hyperlinks(forks: Forks, service: Service, tmp_path: Path, files: list[str]) -> None:
    """The address is a link where the terminal is known to understand it, and text everywhere."""
    terminal = run(forks, service, tmp_path, files[1:2], hyperlinks="1")
    (video_id,) = service.emulator.videos
    address = player(service, video_id)
    assert f"\x1b]8;;{address}\x1b\\{address}\x1b]8;;\x1b\\".encode() in terminal.written
    plain = run(forks, service, tmp_path, [*files[1:2], "--title", "Other"])
    assert b"\x1b]8" not in plain.written


def test_scripts_get_one_line_with_the_whole_address(online: Cli, service: Service, files: list[str]) -> None:
    done = online("upload", *files, COLUMNS="40")
    ids = {video.title: video.video_id for video in service.emulator.videos.values()}
    assert sorted(done.stdout.splitlines()) == sorted(
        f"{ids[name]}  {player(service, ids[name])}  {name}" for name in files
    )


def test_messages_are_wrapped_between_words(forks: Forks, tmp_path: Path) -> None:
    """On a terminal; a message without one stays on its line."""
    name = "a-file-with-a-long-name-that-does-not-exist.mp4"
    for columns in (60, 80):
        with at_terminal(forks, ["upload", name], tmp_path, columns=columns, APIVIDEO_API_KEY="key") as terminal:
            assert terminal.finish() == 2
        assert terminal.last.split() == ["error:", name, "does", "not", "exist."]


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("one two three", 0, ["one two three"]),
        ("one two three", 8, ["one two", "  three"]),
        ("an-address-that-is-too-long x", 8, ["an-address-that-is-too-long", "  x"]),
        ("a  b", 80, ["a  b"]),
        ("映画 映画 映画", 9, ["映画 映画", "  映画"]),
    ],
)
def test_wrap(text: str, columns: int, lines: list[str]) -> None:
    assert wrap(text, columns).split("\n") == lines


@pytest.mark.parametrize("text", ["short", "a much longer name.mp4", "映画映画映画映画.mp4", "e\u0301" * 20])
@pytest.mark.parametrize("columns", [1, 2, 9, 10, 80])
def test_shorten(text: str, columns: int) -> None:
    assert cell_width(shorten(text, columns)) <= columns
    assert (shorten(text, columns) == text) == (cell_width(text) <= columns)


def test_titles_cannot_control_the_terminal() -> None:
    row = VideoRow.of(
        {"videoId": "vi1", "title": "a\x1b[2Jb\n", "assets": {"player": "http://x/\x1b"}}, "", has_link=True
    )
    assert not re.search(r"[\x00-\x1f]", "".join(format_rows([row], 80, has_hyperlinks=False)))
    without = VideoRow.of({"videoId": "vi1", "title": None, "assets": []}, "movie.mp4", has_link=True)
    assert list(format_rows([without], 80, has_hyperlinks=True)) == ["movie.mp4  vi1"]


@pytest.mark.parametrize(
    ("environment", "supported"),
    [
        ({"TERM": "xterm-256color"}, False),
        ({"TERM": "xterm-256color", "VTE_VERSION": "6003"}, True),
        ({"TERM": "xterm-256color", "VTE_VERSION": "4205"}, False),
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, True),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, False),
        ({"TERM": "tmux-256color", "VTE_VERSION": "6003"}, False),
        ({"TERM": "tmux-256color", "FORCE_HYPERLINK": "1"}, True),
        ({"TERM": "xterm-kitty", "FORCE_HYPERLINK": "0"}, False),
    ],
)
def test_terminals_with_hyperlinks(environment: dict[str, str], supported: bool) -> None:
    assert supports_hyperlinks(environment) == supported
