"""Says how many people a customer has: GET /acme. It asks perch, which is beside it, and knows no token."""

import os
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


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), App)
    print(f"listening on {server.server_address[1]}", flush=True)
    server.serve_forever()
