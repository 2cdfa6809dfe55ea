"""confluent-kafka, which is librdkafka, for the tests of test/clients: see child.py."""

import sys
import time
from threading import Event

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

import child

# What a member may be told when it commits while its group rebalances: the records
# come again, here or elsewhere.
NOT_A_MEMBER = {"REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_MEMBER_EPOCH", "STALE_MEMBER_EPOCH", "_NO_OFFSET", "_STATE"}


def deliver(addr, codec, records):
    failed = []
    producer = Producer({"bootstrap.servers": addr, "compression.type": codec, "linger.ms": 5})
    for topic, arguments in records:
        while True:
            try:
                producer.produce(topic, on_delivery=lambda e, _: e and failed.append(e), **arguments)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(child.PATIENCE) > 0:
        raise TimeoutError("messages are left in the queue")
    if failed:
        raise KafkaException(failed[0])


def produce(addr, topic, codec, messages):
    deliver(addr, codec, [
        (topic, {"partition": child.PARTITION, "timestamp": m.time, "key": m.key, "value": m.value, "headers": m.headers})
        for m in messages
    ])


def send(addr, topic, codec, values):
    deliver(addr, codec, [(topic, {"partition": p, "value": v}) for p, v in values])


def consume(addr, topic, n):
    consumer = Consumer({"bootstrap.servers": addr, "group.id": "none", "enable.auto.commit": False, "fetch.wait.max.ms": 50})
    got = []
    deadline = time.monotonic() + child.PATIENCE
    try:
        consumer.assign([TopicPartition(topic, child.PARTITION, OFFSET_BEGINNING)])
        while len(got) < n:
            if time.monotonic() > deadline:
                raise TimeoutError("only %d messages came" % len(got))
            for r in consumer.consume(n - len(got), 1):
                if r.error():
                    raise KafkaException(r.error())
                got.append(child.Message(r.timestamp()[1], r.key(), r.value(), r.headers() or []))
    finally:
        consumer.close()
    return got


def member(addr, group, topic, session, heartbeat, wait, protocol="classic"):
    over = Event()
    child.until_stdin_ends(over.set)
    settings = {
        "bootstrap.servers": addr, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "fetch.wait.max.ms": wait, "group.protocol": protocol,
    }
    if protocol == "classic":  # with the other one the broker decides
        settings.update({"session.timeout.ms": session, "heartbeat.interval.ms": heartbeat})
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    while not over.is_set():
        positions = {}
        for r in consumer.consume(100, 0.2):
            if r.error():
                print(r.error(), file=sys.stderr)
                continue
            child.say("record", r.partition(), r.offset(), r.value().decode("ascii"))
            positions[r.partition()] = r.offset() + 1
        if positions:
            child.pause()
            commit(consumer, topic, positions)
    consumer.close()


def commit(consumer, topic, positions):
    try:
        done = consumer.commit(offsets=[TopicPartition(topic, p, o) for p, o in positions.items()], asynchronous=False)
    except KafkaException as e:
        if e.args[0].name() not in NOT_A_MEMBER:
            raise
        print("commit:", e, file=sys.stderr)
        child.say("failed")
        return
    if any(tp.error is not None for tp in done):
        child.say("failed")
    for tp in done:
        if tp.error is None:
            child.say("committed", tp.partition, tp.offset)


if __name__ == "__main__":
    child.serve(produce, consume, send, member)
