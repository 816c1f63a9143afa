"""A Ray cluster of nodes with one CPU each, by default two: on 127.0.0.2 and 127.0.0.3."""

import contextlib
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.slurm import free_port, wait_for

NODES = ("127.0.0.2", "127.0.0.3")


@contextlib.contextmanager
def running_ray(
    environment: dict[str, str], nodes: Sequence[str] = NODES
) -> Iterator[dict[str, str]]:
    """Ray in the block, with the environment of its users."""
    address = f"{nodes[0]}:{free_port(nodes[0])}"
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**environment, **access, "RAY_ADDRESS": address}
    ray = str(Path(sys.executable).with_name("ray"))
    node = [ray, "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    with tempfile.TemporaryDirectory(prefix="ray") as folder, contextlib.ExitStack() as stack:
        log = stack.enter_context((Path(folder) / "ray.out").open("w"))

        def start(ip: str, *words: str) -> None:
            command = [*node, f"--node-ip-address={ip}", *words]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        def number_of_nodes() -> int:
            status = subprocess.run([ray, "status"], env=environment, capture_output=True)
            return status.stdout.count(b" node_")

        port = address.rpartition(":")[2]
        head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}")
        start(nodes[0], *head)
        wait_for(lambda: number_of_nodes() == 1)
        for node_address in nodes[1:]:
            start(node_address, f"--address={address}")
        wait_for(lambda: number_of_nodes() == len(nodes))
        yield environment
