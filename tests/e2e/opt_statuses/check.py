"""Sends STOP and START to a running otpost as Twilio does, signed by Twilio's own library: `check.py OTPOST`.

The messages are shown by a stand-in for Twilio's API, whose address is a setting.
"""

import email.utils
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from twilio.request_validator import RequestValidator

ACCOUNT, TOKEN, OURS = "AC00000000000000000000000000000001", "a-token-for-tests", "+15005550006"
URL = "https://otp.example.co/webhooks/twilio/inbound"
MESSAGES = {}


class Account(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        sid = self.path.removeprefix(f"/2010-04-01/Accounts/{ACCOUNT}/Messages/").removesuffix(".json")
        message = MESSAGES.get(sid)
        body = json.dumps(message or {"code": 20404}).encode()
        self.send_response(200 if message else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def post(url, body, headers):
    request = urllib.request.Request(url, body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Gateway:
    def __init__(self, otpost, api):
        self.http, ops = free_port(), free_port()
        self.folder = tempfile.TemporaryDirectory()
        self.log = open(os.path.join(self.folder.name, "log"), "w+")
        given = {name: value for name, value in os.environ.items() if name not in ("AMQP_URL", "REDIS_URL")}
        self.environment = given | {
            "ENVIRONMENT": "development",
            "HTTP_ADDR": f"127.0.0.1:{self.http}",
            "OPS_ADDR": f"127.0.0.1:{ops}",
            "OTP_RESEND_COOLDOWN_SECONDS": "0",
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_FROM_NUMBER": OURS,
            "TWILIO_API_BASE_URL": f"http://127.0.0.1:{api}",
            "TWILIO_INBOUND_URL": URL,
        }
        self.otpost = otpost
        # It simulates the codes; the account is for the webhook alone.
        self.process = subprocess.Popen(
            [otpost, "dev"], env=self.environment, cwd=self.folder.name, stdout=self.log, stderr=self.log
        )
        for _ in range(300):
            if self.process.poll() is not None:
                sys.exit(open(self.log.name).read())
            if self.run("health").returncode == 0:
                break
            time.sleep(0.1)
        self.token = self.run("token", "--scope", "otp:send").stdout.strip()

    def run(self, *arguments):
        return subprocess.run(
            [self.otpost, *arguments], env=self.environment, cwd=self.folder.name, capture_output=True, text=True
        )

    def send(self, number):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        _, text = post(f"http://127.0.0.1:{self.http}/api/v1/otp/send", json.dumps({"to": number}), headers)
        answer = json.loads(text)
        return answer.get("status") if "code" not in answer else answer["code"]

    def call(self, sid, token=TOKEN, **more):
        message = MESSAGES[sid]
        form = {
            "AccountSid": ACCOUNT,
            "ApiVersion": "2010-04-01",
            "Body": message["body"],
            "From": message["from"],
            "FromCountry": "CO",
            "MessageSid": sid,
            "NumMedia": "0",
            "SmsMessageSid": sid,
            "SmsSid": sid,
            "SmsStatus": "received",
            "To": OURS,
        } | more
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "X-Twilio-Signature": RequestValidator(token).compute_signature(URL, form),
        }
        body = urllib.parse.urlencode(form)
        return post(f"http://127.0.0.1:{self.http}/webhooks/twilio/inbound", body, headers)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def message(number, text, seconds_ago):
    sid = f"SM{len(MESSAGES):032x}"
    sent = email.utils.formatdate(time.time() - seconds_ago, usegmt=False)
    MESSAGES[sid] = {"sid": sid, "from": number, "to": OURS, "body": text, "direction": "inbound", "date_created": sent}
    return sid


def check(gateway):
    def tell(sid, **more):
        status, text = gateway.call(sid, **more)
        assert (status, text.split("\n", 1)[1].strip()) == (200, "<Response/>"), (status, text)

    def expect(number, answer):
        found = gateway.send(number)
        assert found == answer, f"{number}: {found}, not {answer}"

    one, two, three, four = (f"+5730012345{last}" for last in (60, 61, 62, 63))
    expect(one, "sent")
    tell(message(one, "STOP", 60))
    expect(one, "suppressed")
    tell(message(one, "start", 50))
    expect(one, "sent")
    tell(message(one, "Unsubscribe", 40))
    expect(one, "suppressed")
    # START was sent after STOP, and comes first.
    late, start = message(two, "STOP", 60), message(two, "START", 50)
    tell(start)
    tell(late)
    expect(two, "sent")
    # STOP was sent after START, and comes first.
    late, stop = message(three, "START", 60), message(three, "STOP", 50)
    tell(stop)
    tell(late)
    expect(three, "suppressed")
    # Keywords of Advanced Opt-Out, in another language; other texts change nothing.
    tell(message(four, "hola", 60))
    tell(message(four, "AYUDA", 55), OptOutType="HELP")
    expect(four, "sent")
    tell(message(four, "BAJA ñ €", 50), OptOutType="STOP")
    expect(four, "suppressed")
    tell(message(four, "ALTA", 40), OptOutType="START")
    expect(four, "sent")
    # Forged.
    forged = message(four, "STOP", 30)
    status, text = gateway.call(forged, token="another token")
    assert status == 403 and "signature_refused" in text, (status, text)
    expect(four, "sent")


def main():
    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Account)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    gateway = Gateway(sys.argv[1], api.server_address[1])
    try:
        check(gateway)
    except BaseException:
        print(open(gateway.log.name).read()[-3000:])
        raise
    finally:
        gateway.stop()
    print("STOP, START, out of order, Advanced Opt-Out, forged: every check held")


main()
