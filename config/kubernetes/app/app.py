"""Says how many people a customer has: GET /acme. It asks perch, which is beside it, and knows no token."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import finch


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        customer = self.path.strip("/")
        if customer == "healthz":
            return self.answer(200, "ok")
        # FINCH_BASE_URL leads to perch. The customer's reference stands where the token was.
        client = finch.Finch(access_token=f"customer:{customer}")
        try:
            people = list(client.hris.directory.list())
        except finch.APIStatusError as error:
            return self.answer(error.status_code, error.response.headers.get("perch-class", "error"))
        self.answer(200, f"{customer} has {len(people)} people")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(f"{text}\n".encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # server_close() waits for the answers that are under way.
    daemon_threads = False


if __name__ == "__main__":
    server = Server(("", int(os.environ.get("PORT", "8080"))), App)
    # The first process of a container ignores every signal that it does not ask for: without this Kubernetes waits its whole
    # grace period and then kills, and perch, which ends after the app, is left with seconds. shutdown() would wait for itself
    # on this thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on {server.server_address[1]}", flush=True)
    server.serve_forever()
    server.server_close()
