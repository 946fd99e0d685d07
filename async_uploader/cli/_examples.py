"""The examples at the end of the help. Tests parse each command line."""

from __future__ import annotations

from typing import Final

# \b tells click not to wrap the lines that follow.
APP: Final = """\b
Examples:
  async-uploader upload movie.mp4 --title Holidays
  async-uploader upload videos --recursive --results done.jsonl
  async-uploader emulator --port 8080

\b
Shell completion, in ~/.bashrc (in ~/.zshrc, write zsh_source):
  eval "$(_ASYNC_UPLOADER_COMPLETE=bash_source async-uploader)"
in ~/.config/fish/completions/async-uploader.fish:
  _ASYNC_UPLOADER_COMPLETE=fish_source async-uploader | source"""

UPLOAD: Final = """\b
Examples:
  async-uploader upload movie.mp4 --tag sea --metadata place=Crete --private
  async-uploader upload videos --recursive --exclude '*.tmp' --results done.jsonl
  async-uploader upload --manifest videos.csv --json
  ffmpeg -i cam.mkv -f mpegts - | async-uploader upload - --title Live --max-latency 2
  async-uploader upload movie.mp4 --report report.html --wait
  async-uploader upload movie.mp4 --local"""

WATCH: Final = """\b
Examples:
  async-uploader watch recordings --results done.jsonl
  async-uploader watch recordings --recursive --include '*.mp4' --settle 10 --private"""

IMPORT: Final = """\b
Examples:
  async-uploader import https://example.com/movie.mp4 --title Holidays --wait
  async-uploader import vi4k0jvEUuaTdRAEjQ4Jfagz --title "A copy\""""

EMULATOR: Final = """\b
Examples:
  async-uploader emulator --port 8080 --data videos
  async-uploader emulator --rate-limit 10 --rate-window 5
  async-uploader emulator --connection-rate 2MiB --fault 'part=3,attempt=1:cut,when=middle'
In another terminal, with the address that it prints:
  APIVIDEO_API_KEY=local-key async-uploader upload movie.mp4 --base-url http://127.0.0.1:8080"""
