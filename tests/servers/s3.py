"""SeaweedFS: S3 with signatures that are checked, multipart uploads and conditional requests."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from servers.process import Listening, ask, free_ports, program, running

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SeaweedFS", "seaweedfs"]

_KEY, _SECRET, _BUCKET = "testkey", "testsecret", "shardkit"
_IDENTITIES = {
    "identities": [
        {
            "name": "test",
            "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
    ]
}


@dataclass(frozen=True, kw_only=True)
class SeaweedFS(Listening):
    """An S3 server with one empty bucket. Another bucket comes to be when something is put into it."""

    @property
    def url(self) -> str:
        """The bucket."""
        return f"s3://{_BUCKET}"

    @property
    def storage_options(self) -> dict[str, str]:
        """How a client reaches it, with credentials, so that it looks for none elsewhere."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": _KEY,
            "secret_access_key": _SECRET,
            "region": "us-east-1",
            "allow_http": "true",
            "virtual_hosted_style_request": "false",
        }


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[SeaweedFS]:
    """Run SeaweedFS as long as the block does.

    Args:
        folder: An empty folder.

    Yields:
        The server, three to six seconds later: its parts look for each other at intervals.

    Raises:
        NotInstalled: ``tools/servers`` was not run.
        ServerFailed: It did not start.
    """
    weed = program("weed")
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(json.dumps(_IDENTITIES))
    # Each part has a second port, for gRPC, which would else be 10,000 higher and perhaps somebody's.
    s3, s3_rpc, master, master_rpc, volume, volume_rpc, filer, filer_rpc = free_ports(8)
    command: list[str | Path] = [
        *(weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}"),
        *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_rpc}", f"-s3.config={folder / 's3.json'}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-master.port={master}", f"-master.port.grpc={master_rpc}", "-master.telemetry=false"),
        *(f"-volume.port={volume}", f"-volume.port.grpc={volume_rpc}", "-volume.preStopSeconds=0"),
        *(f"-filer.port={filer}", f"-filer.port.grpc={filer_rpc}"),
        *(f"-filer.localSocket={folder / 'filer.sock'}", f"-s3.localSocket={folder / 's3.sock'}"),
        # A bucket takes seven volumes; with the default of eight, a second bucket could not be written to.
        *("-volume.max=100", "-master.volumeSizeLimitMB=64"),
    ]

    def ready() -> None:
        # It answers before its parts have found each other: what counts is that an object can be put. The filer keeps
        # a bucket as a folder, and needs no signature to make it. It is asked last: asked too early, it waits for long.
        refused, _ = ask(s3, "GET", f"/{_BUCKET}")
        made, _ = ask(filer, "PUT", f"/buckets/{_BUCKET}/ready", b"yes")
        gone, _ = ask(filer, "DELETE", f"/buckets/{_BUCKET}/ready")
        if (refused, made, gone) != (403, 201, 204):
            raise ConnectionError(f"HTTP {refused}, {made}, {gone}")

    # It takes fifteen seconds to end in good order, of which nobody has anything: its data are thrown away.
    try:
        with running(command, folder, ready=ready, grace_s=1):
            yield SeaweedFS(port=s3, log=folder / "log.txt")
    finally:
        # These, unlike all else, cannot be put elsewhere, and stay behind where it is killed.
        for part, port in (("master", master_rpc), ("volume", volume_rpc), ("filer", filer_rpc), ("s3", s3_rpc)):
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)
