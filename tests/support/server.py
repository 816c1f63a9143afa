"""MLflow's server, PostgreSQL, and one between client and server that is out of order."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.commands import discard, prints_line

LOOPBACK = "127.0.0.1"


class BrokenServer(ThreadingHTTPServer):
    """Answers 500, hangs, drops every connection, or forwards to `backend`, by its `mode`.

    With `accounts`, it forwards only who has one of these authorizations, and as whom it says.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), Handler)
        self.mode, self.backend = "500", 0
        self.authorizations: set[str | None] = set()  # of the requests
        self.accounts: dict[str | None, str] = {}
        self.closed = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Clients break off; that is no error of the test."""

    @property
    def uri(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        assert isinstance(self.server, BrokenServer)
        self.server.authorizations.add(self.headers.get("Authorization"))
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.mode == "hang":
            self.server.closed.wait(60)
        if self.server.mode in ("hang", "drop"):
            self.close_connection = True
            return
        status, body = 500, b"out of order"
        if self.server.mode == "forward":
            accounts, known = self.server.accounts, self.headers.get("Authorization")
            if accounts and known not in accounts:
                status, body = 401, b"expected a token"
            else:
                status, body = self.forward(content, accounts.get(known))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def forward(self, content: bytes, authorization: str | None) -> tuple[int, bytes]:
        assert isinstance(self.server, BrokenServer)
        backend = http.client.HTTPConnection(LOOPBACK, self.server.backend)
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        if authorization:
            headers["Authorization"] = authorization
        backend.request(self.command, self.path, content, headers)
        response = backend.getresponse()
        return response.status, response.read()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_: Any) -> None:
        """Nothing of the server in what a run prints."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, *options: str, **environment: str) -> Iterator[int]:
    """A real `mlflow server` on loopback, with its artifacts in the folder: its port."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port),
        "--workers", "1", "--artifacts-destination", str(folder / "files"), *options,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment},
    )  # fmt: skip
    try:
        assert prints_line(process, "startup complete")
        assert process.stdout
        discard(process.stdout)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def postgres_server(password: str) -> Iterator[str]:
    """A real PostgreSQL on loopback, in a folder of its own: the address of an empty database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert programs, "expected PostgreSQL's programs in /usr/lib/postgresql: Debian's postgresql"
    # It refuses to be root; not in pytest's folders, which nobody else may enter.
    user = "postgres" if os.geteuid() == 0 else None
    folder, port = Path(tempfile.mkdtemp()), free_port()

    def run(program: str, *words: object) -> None:
        command = [str(programs[-1] / program), *map(str, words)]
        subprocess.run(command, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)

    if user:
        shutil.chown(folder, user)
    (folder / "password").write_text(password)
    run("initdb", "-D", folder / "data", "-U", "mlflow", "-A", "scram-sha-256",
        f"--pwfile={folder / 'password'}")  # fmt: skip
    options = f"-h {LOOPBACK} -p {port} -k {folder}"
    try:
        run("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", options, "-w", "start")
        yield f"postgresql+psycopg://mlflow@{LOOPBACK}:{port}/postgres"
    finally:
        run("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(folder)
