"""An S3 endpoint where no server answers."""

import pytest
import s3fs


def use_dead_endpoint(patch: pytest.MonkeyPatch) -> None:
    """Let this test's requests to S3 go to an address without a server."""
    patch.setattr(s3fs.S3FileSystem, "_cache", {})  # instances keep their endpoint
    patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    patch.setenv("AWS_ACCESS_KEY_ID", "key")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-test")
