"""Runs one command and maps every way in which it can end to an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click

from async_uploader import ConfigurationError, SourceError, UploaderError, UploadFailed

from ._commands import app
from ._loop import Interrupted
from ._output import OutputError, discard_stdout, print_error, print_message, set_up_streams
from ._params import UsageError
from ._signals import exit_interrupted
from ._upload_flags import UploadFlags

# The library's words for what is an option here.
_OPTIONS: Final = {
    "pass api_key or upload_token": "use --upload-token",
    "pass allow_plain_http=True": "add --allow-plain-http",
}


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    :returns: the exit code
    """
    set_up_streams()
    try:
        code = app.main(list(arguments), prog_name="async-uploader", standalone_mode=False)
        sys.stdout.flush()
    except UsageError as exc:
        return _report_usage_error(exc)
    except UploaderError as exc:
        print_error(_with_option_name(exc))
        return 2 if _is_wrong_usage(exc) else 1
    except OutputError as exc:
        if exc.needs_message:
            print_error(exc)
        discard_stdout()
        return 1
    except BrokenPipeError:
        discard_stdout()
        return 1
    except OSError as exc:
        print_error(exc)
        discard_stdout()
        return 1
    except Interrupted:
        exit_interrupted()
    except SystemExit as exc:
        # click exits after a shell completion, and if the reader of standard output has gone.
        code = int(exc.code or 0)
    return code or 0


def _report_usage_error(exc: UsageError) -> int:
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        exc.show()
        return 2
    print_message(f"error: {exc.format_message()}")
    print_message(f"Try '{exc.ctx.command_path if exc.ctx else 'async-uploader'} --help'.")
    return 2


def _is_wrong_usage(error: UploaderError) -> bool:
    return isinstance(error, ConfigurationError | SourceError) and not isinstance(error, UploadFailed)


def _with_option_name(error: UploaderError) -> UploaderError:
    """Turn ``part_size must be …`` into ``--part-size must be …``: the library's keywords are options here."""
    if not isinstance(error, ConfigurationError):
        return error
    text = str(error)
    for parameter, option in _OPTIONS.items():
        text = text.replace(parameter, option)
    name, _, rest = text.partition(" ")
    if name in UploadFlags.__dataclass_fields__:
        text = f"--{name.replace('_', '-')} {rest}"
    return ConfigurationError(text).with_traceback(error.__traceback__)
