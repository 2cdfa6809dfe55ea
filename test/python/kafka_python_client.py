"""kafka-python 3.0, for the tests of test/clients: see child.py."""

import os
import sys
import time
from threading import Event

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, RebalanceInProgressError

import child

# A member that gets nothing for so long begins anew, in s. Now and then, on a busy machine,
# one of kafka-python 3.0 stops for ever: a trace of its system calls shows nothing sent to the
# broker, no heartbeat either, while poll() returns over and over. Nobody else gets nothing for
# so long while its test goes on sending.
SILENCE = 15


def deliver(addr, codec, topic, records):
    producer = KafkaProducer(
        bootstrap_servers=addr, compression_type=None if codec == "none" else codec, linger_ms=5, max_request_size=4 << 20,
    )
    try:
        acks = [producer.send(topic, **arguments) for arguments in records]
        return [ack.get(child.PATIENCE).offset for ack in acks]
    finally:
        producer.close()


def produce(addr, topic, codec, messages):
    offsets = deliver(addr, codec, topic, [
        {"partition": child.PARTITION, "timestamp_ms": m.time, "key": m.key, "value": m.value, "headers": m.headers}
        for m in messages
    ])
    if offsets != list(range(len(messages))):
        raise ValueError("the messages were acknowledged with the offsets %r" % offsets)


def send(addr, topic, codec, values):
    deliver(addr, codec, topic, [{"partition": p, "value": v} for p, v in values])


def consume(addr, topic, n):
    consumer = KafkaConsumer(bootstrap_servers=addr, group_id=None, enable_auto_commit=False, fetch_max_wait_ms=50)
    tp = TopicPartition(topic, child.PARTITION)
    got = []
    deadline = time.monotonic() + child.PATIENCE
    try:
        consumer.assign([tp])
        consumer.seek(tp, 0)
        while len(got) < n:
            if time.monotonic() > deadline:
                raise TimeoutError("only %d messages came" % len(got))
            for r in consumer.poll(1000).get(tp, []):
                got.append(child.Message(r.timestamp, r.key, r.value, r.headers))
    finally:
        consumer.close()
    return got


def member(addr, group, topic, session, heartbeat, wait):
    over = Event()
    child.until_stdin_ends(over.set)
    consumer = KafkaConsumer(
        topic, bootstrap_servers=addr, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        session_timeout_ms=session, heartbeat_interval_ms=heartbeat, fetch_max_wait_ms=wait, max_poll_interval_ms=60000,
    )
    heard = time.monotonic()
    while not over.is_set():
        if time.monotonic() - heard > SILENCE:
            print("nothing for %d s: begins anew" % SILENCE, file=sys.stderr, flush=True)
            os.execv(sys.executable, [sys.executable] + sys.argv)  # its connections end here
        positions = {}
        for tp, records in consumer.poll(200).items():
            heard = time.monotonic()
            for r in records:
                child.say("record", r.partition, r.offset, r.value.decode("ascii"))
                positions[tp] = OffsetAndMetadata(r.offset + 1, "", -1)
        if not positions:
            continue
        child.pause()
        try:
            consumer.commit(positions)
        except (CommitFailedError, RebalanceInProgressError) as e:
            print("commit:", repr(e), file=sys.stderr)  # the records come again, here or elsewhere
            child.say("failed")
            continue
        for tp, o in positions.items():
            child.say("committed", tp.partition, o.offset)
    consumer.close()


if __name__ == "__main__":
    child.serve(produce, consume, send, member)
