"""A page that shows the engine's containers and starts new ones, over /var/run/docker.sock."""

import html
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker

ENGINE = docker.from_env()


class Page(BaseHTTPRequestHandler):
    def answer(self, text, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        if self.path == "/kept":
            mine = ENGINE.containers.list(all=True, filters={"label": "panel"})
            return self.answer("".join(c.logs().decode() for c in sorted(mine, key=lambda c: c.attrs["Created"])))
        rows = "".join(f"<tr><td>{html.escape(c.name)}</td><td>{c.status}</td></tr>" for c in ENGINE.containers.list(all=True, ignore_removed=True))
        return self.answer(f"<title>containers</title><table>{rows}</table>", "text/html")

    def do_POST(self):
        token = self.rfile.read(int(self.headers["Content-Length"])).decode()
        made = ENGINE.containers.run("busybox", ["echo", token], name=f"panel-{token}", labels=["panel"], network_mode="none", detach=True)
        made.wait()
        self.answer(made.logs().decode())


ThreadingHTTPServer(("", 8000), Page).serve_forever()
