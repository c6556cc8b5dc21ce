"""A vendor that can be made to fail while it runs: a Twilio, or one with an HTTP API of its own and no list of messages.

Everything that reaches it is one line of JSON in the record file: a `message` that it took and a `call` of which it made none, before
any answer; `answered` after an answer was written; each `lookup` and each `check` of the account. `POST /fault` sets what fails from now on. The
port is the first line of the output. It ends when its standard input does.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
import urllib.parse

from fake_twilio import Twilio, encoded, read_call

# A call hangs until its client leaves, but no longer than this.
HANGS_MAX = 90


class Vendor:
    def __init__(self, record, seed, slowest):
        self.record = record
        self.chance = random.Random(seed)
        self.slowest = slowest
        self.fault = {}

    def note(self, what, **fields):
        self.record.write(json.dumps({"what": what, "at": time.time(), **fields}) + "\n")
        self.record.flush()

    async def converse(self, reader, writer):
        try:
            while True:
                method, target, body = await read_call(reader)
                answer = await self.reply(reader, method, target, body)
                if answer is None:
                    return
                writer.write(encoded(*answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client hung up.
        finally:
            writer.close()

    async def reply(self, reader, method, target, body):
        """Status and JSON of an answer; `None` closes the connection without one."""
        kind = self.kind_of(method, target)
        if kind == "fault":
            self.fault = json.loads(body)
            return 200, {}
        if kind == "message":
            return await self.send(reader, body)
        self.note(kind)
        return await self.fail(reader, self.fault.get(kind)) or self.read(method, target, body)

    async def send(self, reader, body):
        message = self.message(body)
        if self.fault.get("message") and self.chance.random() >= self.fault["taken"]:
            self.note("call", **message)
            return await self.fail(reader, self.fault["message"])
        name, answer = self.take(body)
        self.note("message", id=name, **message)
        if not self.fault.get("message"):
            await asyncio.sleep(self.chance.uniform(self.slowest / 3, self.slowest))
        # A fault that began meanwhile swallows this answer, too.
        if self.fault.get("message"):
            return await self.fail(reader, self.fault["message"])
        self.note("answered", id=name)
        return answer

    async def fail(self, reader, fault):
        """`hang`: no answer. `cut`: the connection breaks. `refuse`: a 503. `mixed`: one of the three."""
        if fault == "mixed":
            fault = self.chance.choice(["hang", "cut", "refuse"])
        if fault == "hang":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), HANGS_MAX)
        if fault in ("hang", "cut"):
            raise ConnectionError
        return (503, {"code": 20503, "message": "service unavailable"}) if fault == "refuse" else None


class Listing(Twilio):
    """The list of messages; the record is the vendor's own."""

    def keep(self, sid, form):
        pass


class FailingTwilio(Vendor):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.twilio = Listing(None, 0)

    def kind_of(self, method, target):
        path = urllib.parse.urlsplit(target).path
        if path == "/fault":
            return "fault"
        if path.endswith("/Messages.json"):
            return "message" if method == "POST" else "lookup"
        return "check"

    def message(self, body):
        form = dict(urllib.parse.parse_qsl(body.decode()))
        return {"to": form["To"], "text": form["Body"]}

    def take(self, body):
        status, message = self.twilio.create(dict(urllib.parse.parse_qsl(body.decode())))
        return message["sid"], (status, message)

    def read(self, method, target, body):
        return self.twilio.answer(method, target, body)


class OwnApi(Vendor):
    """`POST /messages` with `to` and `text`, `GET /account`."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.count = 0

    def kind_of(self, method, target):
        return {"/fault": "fault", "/messages": "message"}.get(urllib.parse.urlsplit(target).path, "check")

    def message(self, body):
        sent = json.loads(body)
        return {"to": sent["to"], "text": sent["text"]}

    def take(self, body):
        self.count += 1
        name = f"B{self.count:08}"
        return name, (202, {"id": name})

    def read(self, method, target, body):
        return 200, {"state": "active"}


KINDS = {"twilio": FailingTwilio, "own": OwnApi}


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("record", help="the file to append to")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--slowest", type=float, default=0.15, help="seconds of the slowest answer to a message")
    arguments = parser.parse_args()
    with open(arguments.record, "a", encoding="utf-8") as record:
        vendor = KINDS[arguments.kind](record, arguments.seed, arguments.slowest)
        server = await asyncio.start_server(vendor.converse, "127.0.0.1", 0, limit=1 << 20, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
