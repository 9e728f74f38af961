"""A bucket of this process: gs:// as fsspec sees it and as TensorStore does, one dictionary.

fsspec gets a file system of its own. TensorStore speaks Cloud Storage's JSON API, of which a server
answers the few calls it makes (cloud.google.com/storage/docs/json_api/v1/objects).
"""

import http.server
import json
import threading
import urllib.parse

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Bucket(MemoryFileSystem):
    """gs:// and s3:// in memory."""

    protocol = ("gs", "gcs", "s3")
    cachable = False
    store: dict = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.partition("://")[2].strip("/") if "://" in path else path.rstrip("/")


class Server(http.server.ThreadingHTTPServer):
    """The same objects for TensorStore."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def asked(self):
        """The bucket, the object and the query of /storage/v1/b/BUCKET/o/OBJECT?..."""
        url = urllib.parse.urlsplit(self.path)
        bucket, _, *words = url.path.partition("/b/")[2].split("/")
        query = dict(urllib.parse.parse_qsl(url.query))
        return bucket, urllib.parse.unquote("/".join(words)) or query.get("name", ""), query

    def answer(self, code, content=b"", **headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        bucket, name, query = self.asked()
        system, root = fsspec.filesystem("gs"), f"/{bucket}/"
        if not name:
            start = root + query.get("prefix", "")
            found = sorted(each for each in system.store if each.startswith(start))
            items = [{"name": each.removeprefix(root), "generation": "1"} for each in found]
            return self.answer(200, json.dumps({"items": items}).encode())
        if root + name not in system.store:
            return self.answer(404)
        content = system.cat_file(root + name)
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            span = range(len(content))[int(first) : int(last) + 1 if last else None]
            where = f"bytes {span.start}-{span.stop - 1}/{len(content)}"
            part = content[span.start : span.stop]
            return self.answer(206, part, x_goog_generation="1", Content_Range=where)
        self.answer(200, content, x_goog_generation="1")

    def do_POST(self):
        bucket, name, query = self.asked()
        system, path = fsspec.filesystem("gs"), f"/{bucket}/{name}"
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if query.get("ifGenerationMatch") == "0" and path in system.store:
            return self.answer(412)
        system.pipe_file(path, content)
        self.answer(200, json.dumps({"name": name, "generation": "1"}).encode())

    def do_DELETE(self):
        bucket, name, _ = self.asked()
        fsspec.filesystem("gs").store.pop(f"/{bucket}/{name}", None)
        self.answer(204)

    def log_message(self, *_):
        pass
