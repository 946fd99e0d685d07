"""``curl -Z`` sends the parts as separate files, several at the same time. It does not log in."""

from __future__ import annotations

from benchmarks.targets import Address

from . import Job


def curl(job: Job, address: Address) -> list[str]:
    """The command line. Its configuration is in a file next to the parts."""
    total = len(job.part_files)
    transfers = [
        "\n".join(
            [
                f'url = "{address.url}/videos/vi0/source"',
                f'form = "file=@{path}"',
                f'header = "Content-Range: part {number}/{total}"',
                'header = "Expect:"',
                'output = "/dev/null"',
                *([f'cacert = "{address.ca}"'] if address.ca else []),
                "fail",
                "silent",
                "show-error",
            ]
        )
        for number, path in enumerate(job.part_files, 1)
    ]
    configuration = job.part_files[0].parent.with_suffix(".curl")
    configuration.write_text("\nnext\n".join(transfers) + "\n")
    max_transfers = str(job.connections or 4)
    return ["curl", "-q", "-Z", "--parallel-immediate", "--parallel-max", max_transfers, "-K", str(configuration)]
