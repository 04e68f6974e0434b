"""A small S3 server in this process: enough of the protocol for storages and remote journals, with faults on request."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>{}</Message></Error>'


class FakeS3:
    """Buckets of objects behind an address on loopback.

    Attributes:
        address: "http://127.0.0.1:port".
        objects: "bucket/key" → content; a bucket exists if it is in `buckets`.
        requests: (method, "bucket/key") of every request so far.
        fault: called with method, "bucket/key" and whether the request was carried out already; "" to go on, "lose" to
            close the connection without an answer, or an HTTP status as text.
        conditional: whether If-None-Match is honoured.
    """

    def __init__(self) -> None:
        self.buckets = {"bucket"}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str, bool], str] = lambda method, key, done: ""
        self.conditional = True
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and content."""
        path, query = unquote(urlsplit(target).path).lstrip("/"), parse_qs(urlsplit(target).query, True)
        bucket = path.partition("/")[0]
        if bucket not in self.buckets:
            return 404, ERROR.format("NoSuchBucket", "The specified bucket does not exist").encode()
        with self.lock:
            if "list-type" in query:
                return 200, self._list(bucket, query)
            if method == "POST":
                keys = re.findall(r"<Key>(.*?)</Key>", body.decode())
                for key in keys:
                    self.objects.pop(f"{bucket}/{key}", None)
                rows = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
                return 200, f"<DeleteResult>{rows}</DeleteResult>".encode()
            if method == "PUT":
                if self.conditional and headers.get("if-none-match") == "*" and path in self.objects:
                    return 412, ERROR.format("PreconditionFailed", "a pre-condition did not hold").encode()
                self.objects[path] = body
                return 200, b""
            if path not in self.objects:
                return 404, ERROR.format("NoSuchKey", "The specified key does not exist.").encode()
            return 200, self.objects[path]

    def _list(self, bucket: str, query: dict[str, list[str]]) -> bytes:
        prefix, after = (query.get(name, [""])[0] for name in ("prefix", "start-after"))
        keys = sorted(key.partition("/")[2] for key in self.objects if key.startswith(f"{bucket}/"))
        found = [key for key in keys if key.startswith(prefix) and key > after]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag>"
            f"<Size>{len(self.objects[f'{bucket}/{key}'])}</Size></Contents>"
            for key in found
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()

    def _handler(outer) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                key = unquote(urlsplit(self.path).path).lstrip("/")
                outer.requests.append((self.command, key))
                for done in (False, True):
                    if fault := outer.fault(self.command, key, done):
                        break
                    if not done:
                        headers = {name.lower(): value for name, value in self.headers.items()}
                        status, content = outer.answer(self.command, self.path, headers, body)
                if fault == "lose":
                    self.close_connection = True
                    return
                if fault:
                    status, content = int(fault), ERROR.format("Refused", "refused for the test").encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.send_header("etag", '"x"')
                self.send_header("last-modified", formatdate(usegmt=True))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

        return Handler


@contextlib.contextmanager
def fake_s3() -> Iterator[FakeS3]:
    """A server that runs."""
    store = FakeS3()
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.server.shutdown()
        store.server.server_close()
        thread.join()
