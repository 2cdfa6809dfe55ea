"""A plugin without the SDK, as docs/plugins/protocol.md describes it: a partitioner that
places keys which are numbers by the number, so that ids of one residue lie together, and
all others by CRC-32.

build.sh makes one program of it; README.md says how a broker is given it.
"""

import collections
import concurrent.futures
import json
import os
import signal
import sys
import tempfile
import threading
import zlib

import grpc
import plugin_pb2 as pb
import plugin_pb2_grpc as rpc

COOKIE = "b7d0a1f2-millrace-takes-itself-apart"


def log(level, message, **fields):
    """One line on standard error, as hashicorp/go-hclog writes them."""
    line = {"@level": level, "@message": message, **fields}
    print(json.dumps(line), file=sys.stderr, flush=True)


def parts(data, lengths):
    """The keys, which come one after the other; None where there is none."""
    at = 0
    for length in lengths:
        if length < 0:
            yield None
        else:
            yield data[at : at + length]
            at += length


class Numbers(rpc.PluginServicer, rpc.PartitionerServicer):
    """What the program implements. Calls come side by side."""

    def __init__(self, stop):
        self.stop = stop
        self.offset = 0
        self.turns = collections.Counter()  # by producer: one call of it at a time

    def place(self, key, n):
        if len(key) <= 18 and key.isdigit():
            return (int(key) + self.offset) % n
        return zlib.crc32(key) % n

    def Describe(self, request, context):
        setting = pb.Setting(
            name="partitioner.numbers.offset", type="int", default="0", doc="What is added to a number."
        )
        component = pb.Component(
            seam=pb.SEAM_PARTITIONER, name="numbers", doc="keys that are numbers, by the number",
            settings=[setting], capabilities=["key-only"],
        )
        return pb.DescribeReply(name="numbers", version="1.0.0", components=[component])

    def Configure(self, request, context):
        text = request.settings.get("partitioner.numbers.offset", "0")
        try:
            offset = int(text)
        except ValueError:
            return pb.ConfigureReply(problems=[f"partitioner.numbers.offset={text}: want a number"])
        if offset < 0:
            return pb.ConfigureReply(problems=["partitioner.numbers.offset: want 0 or more"])
        self.offset = offset
        log("info", "configured", offset=offset)
        return pb.ConfigureReply()

    def Collect(self, request, context):
        return pb.CollectReply()

    def Close(self, request, context):
        self.stop.set()
        return pb.CloseReply()

    def Partition(self, request, context):
        n = len(request.leaders)
        if n == 0:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the topic has no partitions")
        self.turns[request.producer] += 1
        turn = self.turns[request.producer] % n
        keys = parts(request.keys, request.key_lengths)
        return pb.PartitionReply(partitions=[turn if k is None else self.place(k, n) for k in keys])

    def PartitionKeys(self, request, context):
        keys = parts(request.keys, request.key_lengths)
        return pb.PartitionKeysReply(partitions=[-1 if k is None else self.place(k, request.partitions) for k in keys])

    def Forget(self, request, context):
        self.turns.pop(request.producer, None)
        return pb.ForgetReply()


def watch_lifeline():
    """Ends the program, and what it has started, when its broker is dead."""

    def end(*_):
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # this process included
        os._exit(0)

    signal.signal(signal.SIGTERM, end)  # Linux says it so as well
    if not os.environ.get("MILLRACE_PLUGIN_LIFELINE"):
        return
    fd = int(os.environ["MILLRACE_PLUGIN_LIFELINE"])
    os.set_inheritable(fd, False)  # it belongs to this process alone

    def wait():
        try:
            while os.read(fd, 4096):
                pass
        except OSError:
            pass
        end()

    threading.Thread(target=wait, daemon=True).start()


def main():
    if os.environ.get("MILLRACE_PLUGIN") != COOKIE:
        sys.exit("This is a plugin of Millrace: a broker starts it (plugin.NAME.path).")
    if "1" not in os.environ.get("PLUGIN_PROTOCOL_VERSIONS", "").split(","):
        sys.exit("numbers speaks version 1 of the contract, and the broker does not")
    if os.environ.get("PLUGIN_CLIENT_CERT"):
        sys.exit("numbers does not encrypt: set plugin.NAME.mtls=false")
    watch_lifeline()
    stop = threading.Event()
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8), options=unlimited)
    numbers = Numbers(stop)
    rpc.add_PluginServicer_to_server(numbers, server)
    rpc.add_PartitionerServicer_to_server(numbers, server)
    folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or tempfile.mkdtemp()
    path = os.path.join(folder, f"numbers-{os.getpid()}.sock")
    server.add_insecure_port("unix:" + path)
    server.start()
    print(f"1|1|unix|{path}|grpc|", flush=True)
    stop.wait()
    server.stop(grace=1).wait()  # the answer to Close is sent
    log("info", "the plugin has ended")


if __name__ == "__main__":
    main()
