"""A Twilio that can fail: it refuses, throttles, hangs or goes away, and reports on its messages by signed callbacks."""

import base64
import hashlib
import hmac
import http.client
import json
import queue
import socket
import threading
import time
import urllib.parse
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCOUNT = "AC0123456789abcdef0123456789abcdef"
TOKEN = "e2a7076108fc0dd2b397274c07b3ee31"
CALLBACK = "https://otp.example.co/webhooks/twilio/status"
REPORT_AFTER = 1.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.twilio.connections.add(self.connection)

    def finish(self):
        self.server.twilio.connections.discard(self.connection)
        try:
            super().finish()
        except OSError:
            pass

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.answer(dict(urllib.parse.parse_qsl(body.decode())))

    def answer(self, form):
        status, answer = self.server.twilio.answer(self.command, urllib.parse.urlsplit(self.path), form)
        if status is None:
            self.close_connection = True
            return
        answer = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        pass


def refusal(status, code):
    return status, {"code": code, "message": "refused", "more_info": "", "status": status}


class FakeTwilio:
    def __init__(self):
        self.connections, self.messages, self.count = set(), {}, 0
        self.lock = threading.Lock()
        # An error that every call gets, and errors of the messages to a number, one each.
        self.everything, self.next_to = None, {}
        self.silent = threading.Event()
        # Seconds before each message is taken.
        self.slowness = 0
        # The report on messages to a number: status and error code.
        self.reports, self.due, self.api_port = {}, queue.Queue(), None
        self.port = 0
        self.come()
        threading.Thread(target=self.report, daemon=True).start()

    def come(self):
        """Listens, after the first time on the same port."""
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.server.twilio, self.port = self, self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def go(self):
        """Listens no more and breaks every connection."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def answer(self, method, url, form):
        while self.silent.is_set():
            time.sleep(0.2)
            if not self.silent.is_set():
                return None, None
        if self.everything:
            return refusal(*self.everything)
        if url.path.endswith("/Messages.json"):
            if method == "POST":
                time.sleep(self.slowness)
                return self.create(form)
            to = dict(urllib.parse.parse_qsl(url.query)).get("To")
            return 200, {"messages": self.messages.get(to, []), "next_page_uri": None}
        if url.path.startswith("/2010-04-01/Accounts/"):
            return 200, {"status": "active", "type": "Full", "friendly_name": "incidents"}
        return refusal(404, 20404)

    def create(self, form):
        to = form.get("To")
        with self.lock:
            if self.next_to.get(to):
                return refusal(*self.next_to[to].pop(0))
            self.count += 1
            sid = f"SM{self.count:032x}"
        now = formatdate(usegmt=False)
        message = {
            "sid": sid, "account_sid": ACCOUNT, "api_version": "2010-04-01", "body": form.get("Body"), "date_created": now,
            "date_sent": None, "date_updated": now, "direction": "outbound-api", "error_code": None, "error_message": None,
            "from": form.get("From"), "messaging_service_sid": None, "num_media": "0", "num_segments": "1", "price": None,
            "price_unit": None, "status": "queued", "to": to, "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}.json",
        }
        self.messages.setdefault(to, []).insert(0, message)
        if form.get("StatusCallback"):
            self.due.put((time.monotonic() + REPORT_AFTER, form["StatusCallback"], sid, to))
        return 201, message

    def report(self):
        """One callback after another; one that is not taken is lost, as otpost asks for the status later."""
        connection = None
        while True:
            at, url, sid, to = self.due.get()
            time.sleep(max(0.0, at - time.monotonic()))
            status, code = self.reports.get(to, ("delivered", None))
            form = {"AccountSid": ACCOUNT, "MessageSid": sid, "MessageStatus": status, "To": to}
            if code:
                form["ErrorCode"] = str(code)
            signed = url + "".join(name + form[name] for name in sorted(form))
            signature = base64.b64encode(hmac.new(TOKEN.encode(), signed.encode(), hashlib.sha1).digest()).decode()
            headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
            path = "/webhooks/twilio/status?" + urllib.parse.urlsplit(url).query
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=10)
                connection.request("POST", path, urllib.parse.urlencode(form), headers)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection = None
