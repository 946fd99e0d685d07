"""From arguments to an exit code: every way in which a command can end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from async_uploader._errors import ConfigurationError, SourceError, UploaderError, UploadFailed

from ._commands import app
from ._loop import Interrupted
from ._output import OutputError, give_up_stdout, say, say_error, set_up_streams
from ._params import UsageError
from ._signals import exit_interrupted
from ._upload_flags import UploadFlags


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    :return: the exit code
    """
    set_up_streams()
    try:
        code = app.main(list(arguments), prog_name="async-uploader", standalone_mode=False)
        sys.stdout.flush()
    except UsageError as exc:
        return _say_usage(exc)
    except UploaderError as exc:
        say_error(_with_option_name(exc))
        return 2 if _is_impossible(exc) else 1
    except OutputError as exc:
        if exc.is_notable:
            say_error(exc)
        give_up_stdout()
        return 1
    except BrokenPipeError:
        give_up_stdout()
        return 1
    except OSError as exc:
        say_error(exc)
        give_up_stdout()
        return 1
    except Interrupted:
        exit_interrupted()
    except SystemExit as exc:
        # click exits by itself after a shell completion, and when the reader of standard output has gone away.
        code = int(exc.code or 0)
    return code or 0


def _say_usage(exc: UsageError) -> int:
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        exc.show()
        return 2
    say(f"error: {exc.format_message()}")
    say(f"Try '{exc.ctx.command_path if exc.ctx else 'async-uploader'} --help'.")
    return 2


def _is_impossible(error: UploaderError) -> bool:
    return isinstance(error, ConfigurationError | SourceError) and not isinstance(error, UploadFailed)


def _with_option_name(error: UploaderError) -> UploaderError:
    """``part_size must be …`` as ``--part-size must be …``: what the library calls a keyword is an option here."""
    name, _, rest = str(error).partition(" ")
    if isinstance(error, ConfigurationError) and name in UploadFlags.__dataclass_fields__:
        return ConfigurationError(f"--{name.replace('_', '-')} {rest}").with_traceback(error.__traceback__)
    return error
