"""A Twilio that remembers everything: a process of its own, on asyncio and the standard library.

Each accepted message is one line of JSON in the record file, written before the answer: what is counted there was
sent, whatever became of the answer. The port is the first line of the output. It ends when its standard input does.
"""

import argparse
import asyncio
import json
import random
import sys
import time
import urllib.parse
from email.utils import formatdate


class Twilio:
    def __init__(self, record, slowest):
        self.record = record
        self.slowest = slowest
        self.messages_to = {}
        self.count = 0

    def create(self, form):
        self.count += 1
        sid = f"SM{0xACCE9700000000 + self.count:032x}"
        self.keep(sid, form)
        message = {
            "sid": sid,
            "account_sid": "AC0123456789abcdef0123456789abcdef",
            "api_version": "2010-04-01",
            "body": form.get("Body"),
            "date_created": formatdate(usegmt=False),
            "date_sent": None,
            "date_updated": formatdate(usegmt=False),
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": form.get("From"),
            "messaging_service_sid": None,
            "num_media": "0",
            "num_segments": "1",
            "price": None,
            "price_unit": None,
            "status": "queued",
            "to": form.get("To"),
            "uri": f"/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages/{sid}.json",
        }
        self.messages_to.setdefault(form.get("To"), []).insert(0, message)
        return 201, message

    def keep(self, sid, form):
        self.record.write(json.dumps({"at": time.time(), "sid": sid, **form}) + "\n")
        self.record.flush()

    def answer(self, method, target, body):
        url = urllib.parse.urlsplit(target)
        if method == "POST" and url.path.endswith("/Messages.json"):
            return self.create(dict(urllib.parse.parse_qsl(body.decode())))
        if method == "GET" and url.path.endswith("/Messages.json"):
            query = dict(urllib.parse.parse_qsl(url.query))
            return 200, {"messages": self.messages_to.get(query.get("To"), []), "next_page_uri": None}
        if method == "GET" and url.path.startswith("/2010-04-01/Accounts/"):
            return 200, {"status": "active", "type": "Full", "friendly_name": "acceptance"}
        return 404, {
            "code": 20404,
            "message": f"{method} {url.path} was not found",
            "more_info": "",
            "status": 404,
        }

    async def converse(self, reader, writer):
        try:
            while True:
                method, target, body = await read_call(reader)
                status, answer = self.answer(method, target, body)
                if method == "POST" and self.slowest:
                    await asyncio.sleep(random.uniform(0.1, self.slowest))
                writer.write(encoded(status, answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client hung up.
        finally:
            writer.close()


async def read_call(reader):
    """Method, target and body of the next call on a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, _ = head.split(" ", 2)
    lengths = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
    return method, target, await reader.readexactly(int(lengths[0])) if lengths else b""


def encoded(status, answer):
    """An answer with a JSON body."""
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nDate: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        formatdate(usegmt=True).encode(),
        len(body),
        body,
    )


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", help="the file to append to")
    parser.add_argument("--slowest", type=float, default=0, help="seconds of the slowest answer to a POST")
    arguments = parser.parse_args()
    with open(arguments.record, "a", encoding="utf-8") as record:
        twilio = Twilio(record, arguments.slowest)
        server = await asyncio.start_server(twilio.converse, "127.0.0.1", 0, limit=1 << 20)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
