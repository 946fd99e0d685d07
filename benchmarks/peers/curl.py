"""``curl -Z``: the parts as files of their own, cut beforehand, several at once. It logs in nowhere."""

from __future__ import annotations

from benchmarks.targets import Address

from . import Job


def curl(job: Job, address: Address) -> list[str]:
    """The command line; what it does is in a configuration beside the parts."""
    total = len(job.cut)
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
        for number, path in enumerate(job.cut, 1)
    ]
    configuration = job.cut[0].parent.with_suffix(".curl")
    configuration.write_text("\nnext\n".join(transfers) + "\n")
    at_once = str(job.connections or 4)
    return ["curl", "-q", "-Z", "--parallel-immediate", "--parallel-max", at_once, "-K", str(configuration)]
