"""Settings from files: ``.env`` in the current directory, and the user's ``config.toml``.

Precedence: options, environment variables, ``.env``, ``config.toml``.

``.env`` may come from an untrusted directory of videos. Only three names are read from it, it replaces no
credential, and its base URL counts only if it has a credential, too: it cannot send a key to another server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click

from async_uploader import ConfigurationError
from async_uploader._catalogue.input_file import read_file
from async_uploader._catalogue.os_errors import describe_os_error

from ._params import usage_error

_BASE_URL: Final = "APIVIDEO_BASE_URL"
_CREDENTIALS: Final = ("APIVIDEO_API_KEY", "APIVIDEO_UPLOAD_TOKEN")
# Options that make sense for every video. Those of one command, or that exclude others, are not settings.
_SETTINGS: Final = frozenset({
    "buffer", "concurrency", "language", "limit-rate", "max-attempts", "metadata", "mp4-support", "panoramic",
    "part-size", "player-id", "public", "ranges", "stall-timeout", "tag", "transcript", "transcript-summary",
    "transcript-summary-attribute", "watermark",
})  # fmt: skip
_TABLES: Final = ("upload", "import", "emulator")

Defaults = dict[str, dict[str, Any]]


def load_settings(commands: Mapping[str, click.Command], named: Path | None) -> Defaults:
    """Read both files, if they exist.

    Credentials and the base URL are added to the environment of this process, unless it has them.

    :param commands: the commands by name
    :param named: a configuration file to read instead of the user's own; it must exist
    :returns: the defaults of options, by command and parameter
    :raises click.UsageError: a file cannot be read, or has an invalid setting
    """
    if os.path.isfile(".env"):
        _read_dotenv(Path(".env"))
    path = named or _user_config_file()
    if path is None:
        return {}
    document = _read_toml(path)
    base_url = document.pop("base-url", document.pop("base_url", None))
    if base_url is not None:
        if not isinstance(base_url, str):
            raise usage_error(f"{path}: base-url must be a string, not {base_url!r}.")
        os.environ.setdefault(_BASE_URL, base_url)
    return {name: dict(_parse_table(path, name, table, commands)) for name, table in document.items()}


def _user_config_file() -> Path | None:
    """The user's configuration file; None if it does not exist, or the user has no home directory."""
    from platformdirs import user_config_path

    try:
        path = user_config_path("async-uploader") / "config.toml"
    except (RuntimeError, KeyError):  # raised by Path.home() and pwd for an unknown user
        return None
    # For an unknown home, "~" may stay in the path: it must not be read as a directory of that name.
    return path if not str(path).startswith("~") and path.is_file() else None


def _read_dotenv(path: Path) -> None:
    # Imported only if there is such a file.
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as exc:
        reason = describe_os_error(exc) if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise usage_error(f"Cannot read {path}: {reason}.") from exc
    if any(os.environ.get(name) for name in _CREDENTIALS) or not any(values.get(name) for name in _CREDENTIALS):
        return
    for name in (*_CREDENTIALS, _BASE_URL):
        value = values.get(name)
        if value:
            os.environ.setdefault(name, value)


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(read_file(path).decode())
    except OSError as exc:
        raise usage_error(f"Cannot read the configuration file {path}: {describe_os_error(exc)}.") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise usage_error(f"The configuration file {path} is not valid TOML: {exc}.") from exc


def _parse_table(
    path: Path, name: str, table: object, commands: Mapping[str, click.Command]
) -> Iterator[tuple[str, object]]:
    if name not in _TABLES or not isinstance(table, dict):
        raise usage_error(f"{path}: {_unknown_setting(name, ('base-url', *_TABLES), 'setting')}")
    options = _settable_options(commands[name])
    for written, value in table.items():
        key = written.replace("_", "-")
        if key not in options:
            raise usage_error(f"{path}: {_unknown_setting(key, options, f'setting of [{name}]')}")
        option = options[key]
        assert option.name is not None
        yield option.name, _validated(f"{path}: {key} of [{name}]", option, value)


def _settable_options(command: click.Command) -> dict[str, click.Option]:
    params = command.get_params(click.Context(command))
    found = {param.opts[0].lstrip("-"): param for param in params if isinstance(param, click.Option)}
    return found if command.name == "emulator" else {key: found[key] for key in found if key in _SETTINGS}


def _unknown_setting(name: str, known: Mapping[str, object] | tuple[str, ...], kind: str) -> str:
    if name.replace("_", "-") in ("api-key", "upload-token"):
        variable = _CREDENTIALS[name.startswith("upload")]
        return f"{name} is not allowed in a configuration file. Set the environment variable {variable}."
    nearest = get_close_matches(name, known, n=1)
    return f"there is no {kind} {name!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else ".")


def _validated(place: str, option: click.Option, value: object) -> object:
    """The value of a setting as an option would have it.

    :raises click.UsageError: it has the wrong type, or is out of range
    """
    expected, types = _expected_type(option)
    values = value if isinstance(value, list) and option.multiple else [value]
    for each in values:
        # bool is a subclass of int.
        if not isinstance(each, types) or (isinstance(each, bool) and bool not in types):
            raise usage_error(f"{place} must be {expected}, not {value!r}.")
        try:
            _check_value(option, each)
        except (click.UsageError, ConfigurationError) as exc:
            raise usage_error(f"{place}: {exc}") from exc
    return [str(each) for each in values] if option.multiple else value


def _check_value(option: click.Option, value: object) -> None:
    """Check a value as far as that is possible without the other options."""
    from async_uploader._options import TransferOptions

    if not option.is_flag:
        value = option.type.convert(str(value), option, None)
    if option.name in TransferOptions.__struct_fields__ and not option.is_flag:
        TransferOptions(**{str(option.name): value})  # type: ignore[arg-type]


def _expected_type(option: click.Option) -> tuple[str, tuple[type, ...]]:
    if option.is_flag:
        return "true or false", (bool,)
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", (int,)
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", (int, float)
    if option.metavar in ("SIZE", "BYTES_PER_SECOND", "RATE"):
        return "a size, such as '50MiB' or a number of bytes", (str, int)
    return ("a list of strings" if option.multiple else "a string"), (str,)
