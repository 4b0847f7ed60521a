"""The application of the Compose file: a page of what is in the table; a POST adds to it."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2


class Page(BaseHTTPRequestHandler):
    def rows(self, added=None):
        database = psycopg2.connect(host="db", user="postgres", dbname="postgres", connect_timeout=10)
        try:
            with database, database.cursor() as cursor:
                cursor.execute("create table if not exists kept (id serial, token text)")
                if added:
                    cursor.execute("insert into kept (token) values (%s)", (added,))
                cursor.execute("select token from kept order by id")
                text = "rows: " + " ".join(row[0] for row in cursor) + "\n"
        finally:
            database.close()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        self.rows()

    def do_POST(self):
        self.rows(self.rfile.read(int(self.headers["Content-Length"])).decode())


ThreadingHTTPServer(("", 8000), Page).serve_forever()
