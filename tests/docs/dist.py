"""Checks the distributions that `make dist` has built, and an installation of the wheel.

python -m tests.docs.dist dist           # the wheel and the sdist in a directory
python -m tests.docs.dist --installed    # the installed package
python tests/docs/dist.py --alone        # the same, and that it works with its base dependencies only
"""
# ruff: noqa: T201 - prints its findings

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
#: Required files that are not modules, or the start of their paths.
DATA: Final = ("async_uploader/py.typed", "async_uploader/emulator/page/", "async_uploader/cli/_report.html")
#: Modules that cannot be imported without an extra, or without pytest.
NEED_MORE: Final = {f"async_uploader.{name}" for name in ("cli._report_page", "pytest_plugin", "telemetry")}


def main() -> None:
    """Check, or fail with a sentence."""
    if sys.argv[1:] == ["--installed"]:
        check_installed()
    elif sys.argv[1:] == ["--alone"]:
        check_installed()
        check_alone()
    else:
        check_built(Path(sys.argv[1]))


def check_built(folder: Path) -> None:
    """Check that both are complete, and that the checkout builds the same wheel as the sdist."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "async_uploader").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for what, names in (("wheel", set(in_wheel)), ("sdist", in_sdist)):
        missing = sorted(package - names)
        assert not missing, f"The {what} lacks {', '.join(missing)}."
        assert all(any(name.startswith(data) for name in names) for data in DATA), f"The {what} lacks data: {DATA}"
    others = {name.partition("/")[0] for name in in_wheel if not name.partition("/")[0].endswith(".dist-info")}
    assert others == {"async_uploader"}, f"The wheel also installs {others - {'async_uploader'}}."
    assert wheel_of_checkout() == in_wheel, "The wheels of checkout and sdist differ."
    print(f"{wheel.name}: {len(in_wheel)} files; {sdist.name}: {len(in_sdist)} files")


def wheel_of_checkout() -> dict[str, bytes]:
    """The contents of a wheel that is built without an sdist."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def check_installed() -> None:
    """Check that `import async_uploader` finds the installed wheel, not a checkout."""
    import async_uploader

    place = Path(async_uploader.__file__).resolve()
    assert place.is_relative_to(Path(sys.prefix).resolve()), f"async_uploader is imported from {place}."
    assert version("async-uploader") == async_uploader.__version__
    print(f"async_uploader {async_uploader.__version__} is imported from {place.parent}")


def check_alone() -> None:
    """Check that the package works with its base dependencies, and names the extra that a feature needs."""
    import async_uploader

    for module in pkgutil.walk_packages(async_uploader.__path__, "async_uploader."):
        if module.name not in NEED_MORE and not module.name.endswith("__main__"):
            import_module(module.name)
    try:
        import_module("async_uploader.telemetry")
    except ImportError as error:
        reason = str(error)
    else:
        reason = "OpenTelemetry is installed"
    assert "async-uploader[otel]" in reason, reason
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "movie.mp4").write_bytes(b"a small file")
        assert "upload" in run("--help", folder=folder).stdout
        uploaded = run("upload", "movie.mp4", "--local", "--json", folder=folder)
        assert uploaded.returncode == 0, uploaded.stderr
        assert json.loads(uploaded.stdout)["videoId"]
        refused = run("upload", "movie.mp4", "--local", "--report", "report.html", folder=folder)
        assert refused.returncode == 2, refused.stderr
        assert "async-uploader[report]" in refused.stderr
    print(f"It works with its base dependencies, on Python {sys.version.partition(' ')[0]}")


def run(*arguments: str, folder: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a directory, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-m", "async_uploader", *arguments]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False, timeout=60)


if __name__ == "__main__":
    main()
