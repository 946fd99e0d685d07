"""``python -m async_uploader``."""

import sys

from .cli import main

sys.exit(main())
