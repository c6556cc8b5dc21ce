"""Signs generated callbacks as the providers do, so that they are accepted; and reports requests that the document allows
and the gateway refuses.

    hooks.py KEY     makes a key of SendGrid's kind in the file KEY, and prints its public half
"""

import base64
import hashlib
import hmac
import os
import pathlib
import re
import sys
import time
import tomllib
from urllib.parse import parse_qsl, urlencode

import requests
import schemathesis
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# The placeholder for signatures in schemathesis.toml. Generated calls with none, or with another one, are not signed.
MARKS = ("to-be-signed", b"to-be-signed")
TWILIO = "X-Twilio-Signature"
SENDGRID, SENDGRID_TIME = "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"


def body_of(request) -> bytes:
    body = request.body or b""
    return body.encode() if isinstance(body, str) else body


class ByTwilio(requests.auth.AuthBase):
    """HMAC over the configured callback URL, the query and every parameter."""

    def __call__(self, request):
        if request.headers.get(TWILIO) not in MARKS:
            return request
        # Twilio calls the URL as otpost wrote it: in this order, and with these characters encoded.
        path, _, query = request.url.partition("?")
        parameters = sorted(parse_qsl(query, keep_blank_values=True), key=lambda part: part[0] != "r")
        query = urlencode(parameters, safe="*").replace("~", "%7E")
        request.url = f"{path}?{query}" if query else path
        text = os.environ["TWILIO_STATUS_CALLBACK_URL"] + (f"?{query}" if query else "")
        if "form" in request.headers.get("Content-Type", ""):
            parameters = set(parse_qsl(body_of(request).decode(), keep_blank_values=True))
            text += "".join(name + value for name, value in sorted(parameters))
        mac = hmac.new(os.environ["TWILIO_AUTH_TOKEN"].encode(), text.encode(), hashlib.sha1)
        request.headers[TWILIO] = base64.b64encode(mac.digest()).decode()
        return request


class BySendGrid(requests.auth.AuthBase):
    """ECDSA over the time and the body as it is sent."""

    def __call__(self, request):
        if request.headers.get(SENDGRID) in MARKS and request.headers.get(SENDGRID_TIME) in MARKS:
            key = serialization.load_pem_private_key(pathlib.Path(os.environ["EVENT_KEY"]).read_bytes(), None)
            now = str(int(time.time()))
            signature = key.sign(now.encode() + body_of(request), ec.ECDSA(hashes.SHA256()))
            request.headers[SENDGRID] = base64.b64encode(signature).decode()
            request.headers[SENDGRID_TIME] = now
        return request


SETTINGS = tomllib.loads(pathlib.Path(__file__).with_name("schemathesis.toml").read_text())
PEOPLE = SETTINGS["dictionaries"]["recipients"]["values"]
SIGNED = {"/webhooks/twilio/status": ByTwilio, "/webhooks/sendgrid/events": BySendGrid}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.path in SIGNED:
        kwargs["auth"] = SIGNED[case.operation.path]()


@schemathesis.check
def allowed_form_is_read(ctx, response, case):
    """A valid body may have a wrong code or reach a limit, but `invalid_request` means that its form was refused."""
    good = case.meta is not None and case.meta.generation.mode.is_positive
    if not good or response.status_code not in (400, 422) or case.operation.path in SIGNED:
        return
    problem = response.json()
    if problem["code"] != "invalid_request":
        return
    # The codes of the document: its schema allows more, as digits of every script and what stands between them are read.
    if problem["detail"].startswith("`otp_code` ") and not re.fullmatch("[0-9]{4,10}", case.body["otp_code"]):
        return
    # A schema cannot express these either, and which templates there are.
    if problem["detail"].startswith(("`client_ip` ", "`locale` ", "`timezone` ", "`template` ")):
        return
    # A schema cannot express valid numbers and addresses. The known recipients are valid, except with another `channel`.
    if not problem["detail"].startswith("`to` ") or (case.body["to"] in PEOPLE and case.body.get("channel") is None):
        raise AssertionError(f"The document allows this, and otpost does not: {problem['detail']}")


if __name__ == "__main__":
    made = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    pem = made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    pathlib.Path(sys.argv[1]).write_bytes(pem)
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    print(base64.b64encode(made.public_key().public_bytes(serialization.Encoding.DER, public)).decode())
