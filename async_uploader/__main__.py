"""``python -m async_uploader``."""

from .cli import main

main()
