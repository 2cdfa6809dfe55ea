"""Writes librdkafka.tsv and keyless.tsv from librdkafka itself; see README.md."""

import csv
import ctypes
import glob
import os
import sys

import confluent_kafka as ck

COUNTS = [1, 2, 3, 4, 7, 12, 50, 1000]
KEYED = ["consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"]


def library():
    libs = os.path.join(os.path.dirname(os.path.dirname(ck.__file__)), "confluent_kafka.libs")
    return ctypes.CDLL(glob.glob(os.path.join(libs, "librdkafka*.so*"))[0])


def delivered(partitioner, keys):
    """Produces to librdkafka's mock cluster, whose topics have four partitions."""
    producer = ck.Producer({
        "test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 2,
        "partitioner": partitioner, "sticky.partitioning.linger.ms": 0,
    })
    out = {}
    for i, key in enumerate(keys):
        def report(err, msg, i=i):
            assert err is None, err
            out[i] = msg.partition()
        producer.produce("topic-" + partitioner, value=b"v", key=key, on_delivery=report)
        producer.poll(0)
    assert producer.flush(60) == 0
    return [out[i] for i in range(len(keys))]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "java.tsv")) as f:
        rows = list(csv.reader((line for line in f if not line.startswith("#")), delimiter="\t"))[1:]
    keys = [bytes.fromhex(row[0]) for row in rows]
    lib = library()
    version = ck.libversion()[0]

    with open(os.path.join(here, "librdkafka.tsv"), "w") as f:
        print(f"# librdkafka {version}: partitioner, key (hex), then the partition among the columns' number of partitions; the one of 4 is where a produced record arrived", file=f)
        print("partitioner", "key", *COUNTS, sep="\t", file=f)
        for name in KEYED:
            call = getattr(lib, "rd_kafka_msg_partitioner_" + name)
            call.restype = ctypes.c_int32
            call.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p]
            some = [k for k in keys if k]  # empty keys: see keyless.tsv
            for key, arrived in zip(some, delivered(name, some)):
                parts = [call(None, key, len(key), n, None, None) for n in COUNTS]
                assert parts[COUNTS.index(4)] == arrived, (name, key)
                print(name, key.hex(), *parts, sep="\t", file=f)

    with open(os.path.join(here, "keyless.tsv"), "w") as f:
        print(f"# librdkafka {version}: partitioner, key, where 400 produced records arrived among 4 partitions: always the same one, or anywhere", file=f)
        print("partitioner", "key", "partition", sep="\t", file=f)
        for name in KEYED + ["random"]:
            for label, key in (("none", None), ("empty", b"")):
                seen = set(delivered(name, [key] * 400))
                assert len(seen) in (1, 4), (name, label, seen)
                print(name, label, "any" if len(seen) == 4 else seen.pop(), sep="\t", file=f)


if __name__ == "__main__":
    sys.exit(main())
