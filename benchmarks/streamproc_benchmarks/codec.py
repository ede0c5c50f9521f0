"""What single steps cost: one answer's parsing, an envelope's two ways, a digest's many."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any

import botocore.parsers
import botocore.session
import msgspec
import orjson

from streamproc.events.envelope import read_envelope
from streamproc.kinesis.codec import decode_get_records
from streamproc_benchmarks.noop import BenchmarkEvent
from streamproc_benchmarks.steps import Steps
from streamproc_benchmarks.workloads import make_entries

__all__ = ["STEPS", "measure_steps"]

_RECORDS = 2_000


class _OneStep(msgspec.Struct):
    """An envelope whose payload type is known beforehand, as in a tagged union of all events."""

    id: str
    type: str
    data: BenchmarkEvent
    time: str | None = None


class _Samples:
    """The same records in every form that a step begins with."""

    def __init__(self, seed: int) -> None:
        entries = make_entries("events", _RECORDS, seed)
        self.payloads = [entry.data for entry in entries]
        self.ids = [f"BenchmarkEvent\0evt_{at:012d}".encode() for at in range(_RECORDS)]
        records = [
            {
                "SequenceNumber": str(10**55 + at),
                "ApproximateArrivalTimestamp": 1_767_225_600.125,
                "Data": base64.b64encode(entry.data).decode(),
                "PartitionKey": entry.partition_key,
            }
            for at, entry in enumerate(entries)
        ]
        self.body = msgspec.json.encode(
            {"Records": records, "NextShardIterator": "next", "MillisBehindLatest": 0}
        )
        model = botocore.session.get_session().get_service_model("kinesis")
        self.shape = model.operation_model("GetRecords").output_shape
        self.parser = botocore.parsers.create_parser("json")
        self.decode_one = msgspec.json.Decoder(_OneStep).decode
        self.decode_event = msgspec.json.Decoder(BenchmarkEvent).decode


def _botocore(samples: _Samples) -> None:
    answer = {"body": samples.body, "headers": {}, "status_code": 200}
    samples.parser.parse(answer, samples.shape)


def _typed(samples: _Samples) -> None:
    decode_get_records(samples.body)


def _two_steps(samples: _Samples) -> None:
    for payload in samples.payloads:
        samples.decode_event(read_envelope(payload).data)


def _one_step(samples: _Samples) -> None:
    for payload in samples.payloads:
        samples.decode_one(payload)


def _orjson(samples: _Samples) -> None:
    for payload in samples.payloads:
        orjson.loads(payload)


def _digest(make: Callable[[bytes], Any]) -> Callable[[_Samples], None]:
    def run(samples: _Samples) -> None:
        for text in samples.ids:
            make(text).digest()

    return run


STEPS: dict[str, Callable[[_Samples], None]] = {
    "GetRecords body, botocore's parser": _botocore,
    "GetRecords body, typed decoder": _typed,
    "event, envelope then payload (engine)": _two_steps,
    "event, envelope and payload in one type": _one_step,
    "event, orjson to dict": _orjson,
    "16-byte digest, blake2b": _digest(lambda text: hashlib.blake2b(text, digest_size=16)),
    "16-byte digest, blake2s": _digest(lambda text: hashlib.blake2s(text, digest_size=16)),
    "16-byte digest, md5": _digest(lambda text: hashlib.md5(text, usedforsecurity=False)),
    "32-byte digest, sha256": _digest(hashlib.sha256),
}


def measure_steps(seed: int, rounds: int) -> Steps:
    """Measure every step once in every round, one after another."""
    samples = _Samples(seed)
    times: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(rounds):
        for name, step in STEPS.items():
            started = time.process_time()
            step(samples)
            times[name].append((time.process_time() - started) / _RECORDS * 1e6)
    return Steps(scenario="codec", each="record", costs=times)
