"""A bucket of moto's S3, filled with boto3 as other programs would do it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from harness.range_server import S3_KEY_ID, S3_SECRET, s3_environment
from harness.world import KEY

#: What must appear in no output, log, error, result, title, metadata or file.
SIGNATURE: Final = "signature-that-must-not-be-shown"
SECRETS: Final = (KEY, SIGNATURE, S3_KEY_ID, S3_SECRET, "X-Amz", "?id=")

_NUMBERS: Final = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket."""

    name: str
    environment: dict[str, str]
    s3: Any

    def put(self, key: str, content: bytes, **options: Any) -> str:
        """Store an object, and return its URL."""
        self.s3.put_object(Bucket=self.name, Key=key, Body=content, **options)
        return self.url(key)

    def url(self, key: str = "") -> str:
        """The URL of an object or a prefix."""
        return f"s3://{self.name}/{key}"

    def presigned(self, key: str) -> str:
        """A presigned https URL of an object; its query is a secret."""
        parameters = {"Bucket": self.name, "Key": key}
        return str(self.s3.generate_presigned_url("get_object", Params=parameters))


@contextmanager
def moto_bucket(endpoint: str, *, key_id: str, secret: str) -> Iterator[Bucket]:
    """Create a bucket, and delete it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # boto3 uses deprecated functions
        import boto3

        s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            region_name="us-east-1",
        )
    name = f"films-{next(_NUMBERS)}"
    s3.create_bucket(Bucket=name)
    try:
        yield Bucket(name=name, environment=s3_environment(endpoint), s3=s3)
    finally:
        while entries := s3.list_objects_v2(Bucket=name).get("Contents"):
            for entry in entries:
                s3.delete_object(Bucket=name, Key=entry["Key"])
        s3.delete_bucket(Bucket=name)
        s3.close()
