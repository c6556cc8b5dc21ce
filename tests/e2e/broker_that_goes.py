"""A proxy to RabbitMQ for one client: it closes the connection after three seconds, as a stopping broker does.

    broker_that_goes.py PORT AMQP_URL
"""

import select
import socket
import struct
import sys
import time
from urllib.parse import urlsplit

# The frame of `connection.close` with 320, CONNECTION_FORCED, and an empty text.
CLOSE = struct.pack(">BHI", 1, 0, 11) + struct.pack(">HHHBHH", 10, 50, 320, 0, 0, 0) + b"\xce"

real = urlsplit(sys.argv[2])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
client, _ = listener.accept()
broker = socket.create_connection((real.hostname, real.port or 5672))
end = time.monotonic() + 3
while time.monotonic() < end:
    for side in select.select([client, broker], [], [], 0.1)[0]:
        (broker if side is client else client).sendall(side.recv(65536))
client.sendall(CLOSE)
client.recv(65536)  # `connection.close-ok`
