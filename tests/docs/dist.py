"""Looks into what `make dist` has built, and at what is installed of it.

python -m tests.docs.dist dist           # the wheel and the sdist in that folder
python -m tests.docs.dist --installed    # what `import async_uploader` finds
"""
# ruff: noqa: T201 - it says what it has found

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
#: What is no module and yet needed, each at least once.
DATA: Final = ("async_uploader/py.typed", "async_uploader/emulator/page/", "async_uploader/cli/_report.html")


def main() -> None:
    """Check, or fail with a sentence."""
    if sys.argv[1:] == ["--installed"]:
        check_installed()
    else:
        check_built(Path(sys.argv[1]))


def check_built(folder: Path) -> None:
    """Both are there and complete; and the checkout builds the very wheel that was built from the sdist."""
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
    strangers = {name.partition("/")[0] for name in in_wheel if not name.partition("/")[0].endswith(".dist-info")}
    assert strangers == {"async_uploader"}, f"The wheel would also install {strangers - {'async_uploader'}}."
    assert wheel_of_checkout() == in_wheel, "The checkout builds another wheel than the sdist does."
    print(f"{wheel.name}: {len(in_wheel)} files; {sdist.name}: {len(in_sdist)} files")


def wheel_of_checkout() -> dict[str, bytes]:
    """What a wheel has that is built without an sdist in between."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def check_installed() -> None:
    """It is the wheel in this environment, and not a checkout."""
    import async_uploader

    place = Path(async_uploader.__file__).resolve()
    assert place.is_relative_to(Path(sys.prefix).resolve()), f"async_uploader is imported from {place}."
    assert version("async-uploader") == async_uploader.__version__
    print(f"async_uploader {async_uploader.__version__} is imported from {place.parent}")


if __name__ == "__main__":
    main()
