"""Does what the tests of test/clients ask of kafka-python 1.3.4, on Python 3.6.

One command a line on standard input, fields separated by tabs, answered on standard
output by lines of which the last is "ok" or "error" with a reason:

    produce ADDR TOPIC CODEC N      N lines of messages follow
    consume ADDR TOPIC N            answered with N lines of messages
    send    ADDR TOPIC CODEC N      N lines of partition and value follow

A message is its time, key and value; key and value in base64, with "-" for null.

With the arguments member ADDR GROUP TOPIC SESSION HEARTBEAT (both in ms) it is a member
of a group instead: see test/clients/group_member_test.go.
"""

import base64
import os
import sys
import threading
import time
import traceback

import lz4f
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CommitFailedError
from kafka.producer.buffer import MessageSetBuffer
from kafka.structs import OffsetAndMetadata

PARTITION = 0
PATIENCE = 100  # s


def lz4_encode(payload):
    """Writes lz4 with independent blocks, as kafka-python does from 1.4 on.

    What 1.3.4 writes of more than 64 KiB has blocks that depend on each other, which
    no broker of Kafka's takes either.
    """
    context = lz4f.createCompContext()
    try:
        head = lz4f.compressBegin(context, lz4f.makePrefs(blockSizeID=4, blockMode=1))
        return head + lz4f.compressUpdate(payload, context) + lz4f.compressEnd(context)
    finally:
        lz4f.freeCompContext(context)


def set_lz4():
    codecs = MessageSetBuffer._COMPRESSORS
    present, _, number = codecs["lz4"]
    codecs["lz4"] = (present, lz4_encode, number)


def unpack(field):
    return None if field == "-" else base64.b64decode(field)


def pack(value):
    return "-" if value is None else base64.b64encode(value).decode("ascii")


def produce(addr, topic, codec, messages):
    producer = KafkaProducer(
        bootstrap_servers=addr,
        compression_type=None if codec == "none" else codec,
        linger_ms=5,
        max_block_ms=PATIENCE * 1000,
    )
    try:
        acks = [
            producer.send(
                topic,
                key=unpack(m[1]),
                value=unpack(m[2]),
                partition=PARTITION,
                timestamp_ms=int(m[0]),
            )
            for m in messages
        ]
        for i, ack in enumerate(acks):
            offset = ack.get(PATIENCE).offset
            if offset != i:
                raise RuntimeError("message %d was acknowledged with offset %d" % (i, offset))
    finally:
        producer.close(PATIENCE)


def send(addr, topic, codec, values):
    producer = KafkaProducer(
        bootstrap_servers=addr,
        compression_type=None if codec == "none" else codec,
        acks="all",
        linger_ms=5,
        max_block_ms=PATIENCE * 1000,
    )
    try:
        for ack in [producer.send(topic, value=v[1].encode("utf-8"), partition=int(v[0])) for v in values]:
            ack.get(PATIENCE)
    finally:
        producer.close(PATIENCE)


def member(addr, group, topic, session, heartbeat):
    ended = threading.Event()

    def wait():
        sys.stdin.read()
        ended.set()

    thread = threading.Thread(target=wait)
    thread.daemon = True
    thread.start()
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=addr,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        session_timeout_ms=int(session),
        heartbeat_interval_ms=int(heartbeat),
    )
    while not ended.is_set():
        pause = int(os.environ.get("MEMBER_PAUSE", "0")) / 1000
        for tp, records in consumer.poll(timeout_ms=100).items():
            for r in records:
                print("record\t%d\t%d\t%s" % (r.partition, r.offset, r.value.decode("utf-8")), flush=True)
                time.sleep(pause)
                pause = 0  # once for what one poll brings
                try:
                    consumer.commit({tp: OffsetAndMetadata(r.offset + 1, "")})
                except CommitFailedError:
                    traceback.print_exc()
                    print("failed", flush=True)
                    continue
                print("committed\t%d\t%d" % (r.partition, r.offset + 1), flush=True)
    consumer.close()


def consume(addr, topic, n, out):
    tp = TopicPartition(topic, PARTITION)
    consumer = KafkaConsumer(
        bootstrap_servers=addr,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=50,
    )
    try:
        consumer.assign([tp])
        consumer.seek(tp, 0)
        end = consumer.end_offsets([tp])[tp]
        if end != n:
            raise RuntimeError("the end offset is %d, not %d" % (end, n))
        deadline = time.time() + PATIENCE
        got = 0
        while got < n:
            for r in consumer.poll(timeout_ms=1000).get(tp, []):
                if r.offset != got:
                    raise RuntimeError("message %d has offset %d" % (got, r.offset))
                got += 1
                out.write("%d\t%s\t%s\n" % (r.timestamp, pack(r.key), pack(r.value)))
            if got < n and time.time() > deadline:
                raise RuntimeError("only %d messages came" % got)
    finally:
        consumer.close()


def main():
    set_lz4()
    if sys.argv[1:2] == ["member"]:
        member(*sys.argv[2:])
        return
    out = sys.stdout
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        f = line.rstrip("\n").split("\t")
        try:
            if f[0] == "produce":
                messages = [sys.stdin.readline().rstrip("\n").split("\t") for _ in range(int(f[4]))]
                produce(f[1], f[2], f[3], messages)
            elif f[0] == "send":
                send(f[1], f[2], f[3], [sys.stdin.readline().rstrip("\n").split("\t") for _ in range(int(f[4]))])
            elif f[0] == "consume":
                consume(f[1], f[2], int(f[3]), out)
            else:
                raise ValueError("unknown command " + f[0])
            out.write("ok\n")
        except Exception as e:
            traceback.print_exc()
            out.write("error\t%r\n" % (e,))
        out.flush()


if __name__ == "__main__":
    main()
