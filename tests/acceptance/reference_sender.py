"""The usual first design: send at one vendor, and on any exception at the other. It keeps no record of what the first may have done."""

import asyncio
import json
import secrets
import time
import urllib.parse

IN_FLIGHT_MAX = 2_000


def run(numbers, rate, twilio, beta, timeout, fault, fault_at):
    """One message to each number at a steady rate; `fault` happens before number `fault_at`."""
    asyncio.run(send_all(numbers, rate, twilio, beta, timeout, fault, fault_at))


async def send_all(numbers, rate, twilio, beta, timeout, fault, fault_at):
    room = asyncio.Semaphore(IN_FLIGHT_MAX)
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for nth, to in enumerate(numbers):
            await asyncio.sleep(max(0, began + nth / rate - time.monotonic()))
            if nth == fault_at:
                await asyncio.to_thread(fault)
            await room.acquire()
            task = tasks.create_task(send(to, twilio, beta, timeout))
            task.add_done_callback(lambda _: room.release())


async def send(to, twilio, beta, timeout):
    text = f"MeStore: tu codigo es {secrets.randbelow(900_000) + 100_000}."
    try:
        form = urllib.parse.urlencode({"To": to, "From": "+15005550006", "Body": text})
        path = "/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Messages.json"
        await asyncio.wait_for(post(twilio, path, "application/x-www-form-urlencoded", form), timeout)
    except Exception:
        await asyncio.wait_for(post(beta, "/messages", "application/json", json.dumps({"to": to, "text": text})), timeout)


async def post(port, path, content_type, body):
    """Raises without a good answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: vendor\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        status = int((await reader.readuntil(b"\r\n")).split(b" ")[1])
        if status >= 300:
            raise ConnectionError(f"answer {status}")
    finally:
        writer.close()
