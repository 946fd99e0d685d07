"""Settings that need not be typed each time: a ``.env`` where the command runs, and the user's ``config.toml``.

An option goes before the environment, that before ``.env``, that before the configuration.

``.env`` may lie in a directory of videos that somebody else has filled. So only three names are read from it, it
replaces no credential, and its base URL counts only beside a credential of its own: a key from elsewhere is not
sent where a file in the present directory wants it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click

from async_uploader._errors import ConfigurationError

from ._params import usage_error

_BASE_URL: Final = "APIVIDEO_BASE_URL"
_CREDENTIALS: Final = ("APIVIDEO_API_KEY", "APIVIDEO_UPLOAD_TOKEN")
# What belongs to one command line, or contradicts other options of it, cannot be set for all.
_SETTINGS: Final = frozenset({
    "buffer", "concurrency", "language", "max-attempts", "metadata", "mp4-support", "panoramic", "part-size",
    "player-id", "public", "ranges", "stall-timeout", "tag", "transcript", "transcript-summary",
    "transcript-summary-attribute", "watermark",
})  # fmt: skip
_TABLES: Final = ("upload", "import", "emulator")

Defaults = dict[str, dict[str, Any]]


def load(commands: Mapping[str, click.Command], named: Path | None) -> Defaults:
    """Read both files, where they exist.

    The credentials and the base URL go into this process's environment, if it has none.

    :param commands: by their names
    :param named: a configuration to read instead of the user's own; it must exist
    :return: the defaults of options, by command and parameter
    :raises click.UsageError: one of them cannot be meant
    """
    if os.path.isfile(".env"):
        _read_environment(Path(".env"))
    path = named or _own_file()
    if path is None:
        return {}
    document = _read_toml(path)
    base_url = document.pop("base-url", document.pop("base_url", None))
    if base_url is not None:
        if not isinstance(base_url, str):
            raise usage_error(f"{path}: base-url must be text, not {base_url!r}.")
        os.environ.setdefault(_BASE_URL, base_url)
    return {name: dict(_defaults(path, name, table, commands)) for name, table in document.items()}


def _own_file() -> Path | None:
    """The user's configuration; None if there is none, or no home directory to look for it in."""
    from platformdirs import user_config_path

    try:
        path = user_config_path("async-uploader") / "config.toml"
    except (RuntimeError, KeyError):  # what Path.home() and pwd raise for an unknown user
        return None
    # An unknown home may also be left as "~": not a directory to read from where the command runs.
    return path if not str(path).startswith("~") and path.is_file() else None


def _read_environment(path: Path) -> None:
    # Loaded only where there is such a file.
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise usage_error(f"{path} cannot be read: {reason}.") from exc
    if any(os.environ.get(name) for name in _CREDENTIALS) or not any(values.get(name) for name in _CREDENTIALS):
        return
    for name in (*_CREDENTIALS, _BASE_URL):
        value = values.get(name)
        if value:
            os.environ.setdefault(name, value)


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise usage_error(f"The configuration {path} cannot be read: {exc.strerror}.") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise usage_error(f"The configuration {path} is not TOML: {exc}.") from exc


def _defaults(
    path: Path, name: str, table: object, commands: Mapping[str, click.Command]
) -> Iterator[tuple[str, object]]:
    if name not in _TABLES or not isinstance(table, dict):
        raise usage_error(f"{path}: {_unknown(name, ('base-url', *_TABLES), 'setting')}")
    options = _options(commands[name])
    for written, value in table.items():
        key = written.replace("_", "-")
        if key not in options:
            raise usage_error(f"{path}: {_unknown(key, options, f'setting of [{name}]')}")
        option = options[key]
        assert option.name is not None
        yield option.name, _checked(f"{path}: {key} of [{name}]", option, value)


def _options(command: click.Command) -> dict[str, click.Option]:
    params = command.get_params(click.Context(command))
    found = {param.opts[0].lstrip("-"): param for param in params if isinstance(param, click.Option)}
    return found if command.name == "emulator" else {key: found[key] for key in found if key in _SETTINGS}


def _unknown(name: str, known: Mapping[str, object] | tuple[str, ...], kind: str) -> str:
    if name.replace("_", "-") in ("api-key", "upload-token"):
        return f"{name} cannot be kept here; put {_CREDENTIALS[name.startswith('upload')]} into the environment."
    nearest = get_close_matches(name, known, n=1)
    return f"there is no {kind} {name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else ".")


def _checked(place: str, option: click.Option, value: object) -> object:
    """A value as it may stand on the command line.

    :raises click.UsageError: it is of another type, or out of its range
    """
    expected, kinds = _expected(option)
    values = value if isinstance(value, list) and option.multiple else [value]
    for each in values:
        # True is a 1 to Python, and to nobody else.
        if not isinstance(each, kinds) or (isinstance(each, bool) and bool not in kinds):
            raise usage_error(f"{place} must be {expected}, not {value!r}.")
        try:
            _try(option, each)
        except (click.UsageError, ConfigurationError) as exc:
            raise usage_error(f"{place}: {exc}") from exc
    return [str(each) for each in values] if option.multiple else value


def _try(option: click.Option, value: object) -> None:
    """See whether it could be meant, as far as it can be seen from the value alone."""
    from async_uploader._options import TransferOptions

    if not option.is_flag:
        value = option.type.convert(str(value), option, None)
    if option.name in TransferOptions.__struct_fields__ and not option.is_flag:
        TransferOptions(**{str(option.name): value})  # type: ignore[arg-type]


def _expected(option: click.Option) -> tuple[str, tuple[type, ...]]:
    if option.is_flag:
        return "true or false", (bool,)
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", (int,)
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", (int, float)
    if option.metavar in ("SIZE", "BYTES_PER_SECOND"):
        return "a size, as '50MiB' or a number of bytes", (str, int)
    return ("a list of texts" if option.multiple else "text"), (str,)
