"""Looks for codes and phone numbers where none may be.

Six digits turn up by chance, so a code is looked for where it would be a leak: in whatever names its own request or
shares its recipient's keys, and only as a whole run of digits, not inside a longer number or a hash. A number is long
enough to be looked for everywhere, in the same way, with and without +57, with and without separators, and as an
unkeyed hash, which could be inverted.
"""

import hashlib
import re
from collections import Counter

from harness import expect

RUN = re.compile(r"[0-9A-Fa-f]+")
FRACTION_OF_SECOND = re.compile(r"(?<=:\d\d)\.\d+")
SEPARATOR = re.compile(r"(?<=\d)[ ().-]+(?=\d)")
HASH_TAG = re.compile(r"\{([^}]*)\}")


class Known:
    """What must not be found, from the SMS that the fake Twilio recorded and the requests that were published."""

    def __init__(self, gateway, requests):
        texted = gateway.codes()
        self.codes = {}
        self.numbers = {}
        for request in requests:
            codes = set(texted.get(request.to, ()))
            codes.update(re.findall(rb'"code": "(\d+)"', request.body))
            codes = {code.decode() if isinstance(code, bytes) else code for code in codes}
            # A request without a readable id is known by its correlation_id.
            for name in (request.request_id, request.correlation_id):
                self.codes[name] = {form for code in codes for form in (code, sha256(code))}
            if request.to and re.fullmatch(r"\+57\d{10}", request.to):
                for form in (request.to[1:], request.to[3:], sha256(request.to), sha256(request.to[1:])):
                    self.numbers[form] = f"the number of {request.request_id}"
        self.names = re.compile(r"acc-[0-9a-f]{16}|corr-[0-9a-f]{12}")
        self.counts = Counter()

    def named_in(self, text):
        return {name for name in self.names.findall(text) if name in self.codes}

    def search(self, text, where, names):
        """The leaks in one text, with the codes of these requests and all numbers."""
        self.counts[where] += 1
        runs = digit_runs(text)
        found = [f"{self.numbers[run]} in {where}: {text[:300]}" for run in runs & self.numbers.keys()]
        for name in names:
            found += [
                f"the code {code} of {name} in {where}: {text[:300]}" for code in runs & self.codes[name]
            ]
        return found

    def looked_at(self):
        texts = ", ".join(f"{where}: {count}" for where, count in self.counts.items())
        return f"looked for {len(self.codes) // 2} requests' codes and {len(self.numbers) // 4} numbers; texts: {texts}"


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def digit_runs(text):
    """All whole runs of (hexadecimal) digits, also with the separators inside numbers taken out."""
    text = FRACTION_OF_SECOND.sub("", text)
    text = re.sub(r"%2B|\\u002B", "+", text, flags=re.IGNORECASE)
    return set(RUN.findall(text)) | set(RUN.findall(SEPARATOR.sub("", text)))


def in_messages(known, messages, what):
    found = []
    for message in messages:
        text = message.everything()
        found += known.search(text, what, known.named_in(text))
    return found


def in_log(known, process):
    found = []
    for line in process.log.read_text("utf-8", "replace").splitlines():
        found += known.search(line, f"the log of {process.name}", known.named_in(line))
    return found


def in_text(known, text, where):
    return [leak for line in text.splitlines() for leak in known.search(line, where, known.named_in(line))]


# Keys of the gateway itself: its format, and the minutes that have a list of awaited receipts. They name no recipient.
LASTING = (b":format", b":due")


def in_redis(known, gateway):
    """Keys and values. The keys of a recipient share a hash tag, and so its requests' codes are looked for in all."""
    entries = {
        key: value_of(gateway.redis, key) for key in gateway.redis.scan_iter(f"*{gateway.prefix}*", 1000)
    }
    expect(entries, "no key under the prefix: it cannot be the one in use")
    texts = {key: f"{key.decode('utf-8', 'replace')} {value}" for key, value in entries.items()}
    names_of_tag = {}
    for text in texts.values():
        for tag in HASH_TAG.findall(text.split(" ")[0]):
            names_of_tag.setdefault(tag, set()).update(known.named_in(text))

    found = []
    for key, text in texts.items():
        names = set(known.named_in(text))
        for tag in HASH_TAG.findall(text.split(" ")[0]):
            names |= names_of_tag[tag]
        found += known.search(text, "Redis", names)
        if gateway.redis.ttl(key) == -1 and not key.endswith(LASTING):
            found.append(f"no TTL on {text[:200]}")
    return found


def value_of(store, key):
    """Everything a key holds, as text that a search can read."""
    kind = store.type(key).decode()
    readers = {
        "string": lambda: [store.get(key)],
        "hash": lambda: [part for pair in store.hgetall(key).items() for part in pair],
        "zset": lambda: [
            part for member, score in store.zrange(key, 0, -1, withscores=True) for part in (member, score)
        ],
        "set": lambda: store.smembers(key),
        "list": lambda: store.lrange(key, 0, -1),
        "stream": lambda: store.xrange(key),
        "none": lambda: [],
    }
    parts = readers[kind]()
    return " ".join(
        part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in parts
    )
