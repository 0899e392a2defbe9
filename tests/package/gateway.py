#!/usr/bin/env python3
"""An SMS gateway on loopback that writes down what it takes: gateway.py PORT FILE SECONDS.

Each SMS becomes a line of FILE, number and text, before it is answered; an answer takes SECONDS.
"""

import http.server
import sys
import threading
import time
import urllib.parse

port, path, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
taken = open(path, "a", encoding="utf-8", buffering=1)
one_by_one = threading.Lock()


class Gateway(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if "to" in query:
            with one_by_one:
                taken.write(query["to"][0] + "\t" + query["text"][0] + "\n")
            time.sleep(seconds)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Gateway).serve_forever()
