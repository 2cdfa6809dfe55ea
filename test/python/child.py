"""What the tests of test/clients and a Python client say to each other.

One command a line on standard input, fields separated by tabs, answered on standard
output by lines of which the last is "ok" or "error" with a reason:

    produce ADDR TOPIC CODEC N      N lines of messages follow
    consume ADDR TOPIC N            answered with N lines of messages
    send    ADDR TOPIC CODEC N      N lines of "PARTITION VALUE" follow

A message is its time, key and value, then key and value of each header; all but the
time in base64, with "-" for null. With the arguments "member ADDR GROUP TOPIC SESSION
HEARTBEAT WAIT", times in ms, the program is a member of a group, as test/java's Member is.
"""

import base64
import os
import sys
import threading
import time
import traceback
from collections import namedtuple

PARTITION = 0
PATIENCE = 100  # s

Message = namedtuple("Message", "time key value headers")


def unpack(field):
    return None if field == "-" else base64.b64decode(field)


def pack(value):
    return "-" if value is None else base64.b64encode(value).decode("ascii")


def decode(line):
    f = line.split("\t")
    headers = [(unpack(f[i]).decode("utf-8"), unpack(f[i + 1])) for i in range(3, len(f), 2)]
    return Message(int(f[0]), unpack(f[1]), unpack(f[2]), headers)


def encode(m):
    fields = [str(m.time), pack(m.key), pack(m.value)]
    for key, value in m.headers:
        fields += [pack(key.encode("utf-8")), pack(value)]
    return "\t".join(fields)


def until_stdin_ends(then):
    """Calls then on a thread of its own when nothing more will come."""

    def read():
        sys.stdin.read()
        then()

    threading.Thread(target=read, daemon=True).start()


def pause():
    """Waits between reading and committing for as long as the test wants."""
    time.sleep(int(os.environ.get("MEMBER_PAUSE", "0")) / 1000)


def say(*fields):
    print("\t".join(str(f) for f in fields), flush=True)


def serve(produce, consume, send, member):
    if len(sys.argv) > 1 and sys.argv[1] == "member":
        addr, group, topic = sys.argv[2:5]
        member(addr, group, topic, *[int(a) for a in sys.argv[5:8]], *sys.argv[8:])
        return
    lines = iter(sys.stdin.readline, "")

    def take(n):
        return [next(lines).rstrip("\n") for _ in range(int(n))]

    for line in lines:
        f = line.rstrip("\n").split("\t")
        try:
            if f[0] == "produce":
                produce(f[1], f[2], f[3], [decode(x) for x in take(f[4])])
            elif f[0] == "consume":
                for m in consume(f[1], f[2], int(f[3])):
                    print(encode(m))
            elif f[0] == "send":
                values = [x.split("\t") for x in take(f[4])]
                send(f[1], f[2], f[3], [(int(p), v.encode("ascii")) for p, v in values])
            else:
                raise ValueError("unknown command " + f[0])
            say("ok")
        except Exception as e:  # whatever it is, the test shall know
            traceback.print_exc()
            say("error", repr(e).replace("\t", " ").replace("\n", " "))
