"""Does what the tests of test/clients ask of kafka-python 1.3.4, on Python 3.6.

One command a line on standard input, fields separated by tabs, answered on standard
output by lines of which the last is "ok" or "error" with a reason:

    produce ADDR TOPIC CODEC N      N lines of messages follow
    consume ADDR TOPIC N            answered with N lines of messages

A message is its time, key and value; key and value in base64, with "-" for null.
"""

import base64
import sys
import time
import traceback

import lz4f
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.producer.buffer import MessageSetBuffer

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
