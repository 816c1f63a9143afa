"""A server between the client and MLflow that is out of order in several ways."""

import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOOPBACK = "127.0.0.1"


class BrokenServer(ThreadingHTTPServer):
    """Answers 500, hangs, drops every connection, or forwards to `backend`, by its `mode`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), Handler)
        self.mode, self.backend = "500", 0
        self.authorizations: set[str | None] = set()  # of the requests
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
            status, body = self.forward(content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def forward(self, content: bytes) -> tuple[int, bytes]:
        assert isinstance(self.server, BrokenServer)
        backend = http.client.HTTPConnection(LOOPBACK, self.server.backend)
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
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
