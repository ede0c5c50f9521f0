"""Measure how fast LocalKinesis serves: `python -m streamproc.testing.localkinesis.speed`.

The server runs in a process of its own (uvloop, on its own core where the system allows it); the
client here reads raw sockets and looks into no body, so that the server is what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

_STREAM = "speed"
_SHARD = "shardId-000000000000"
_DATA_BYTES = 400
_BUFFER_BYTES = 32 * 1024 * 1024


def main() -> None:
    """Measure and print one line for each kind of request."""
    parser = argparse.ArgumentParser(description="Measure how fast LocalKinesis serves.")
    parser.add_argument("--records", type=int, default=200_000, help="records in the shard")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(arguments.records)
        return
    _pin(1)
    command = [sys.executable, "-m", __spec__.name, "--serve", "--records", str(arguments.records)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        client = _RawClient(int(server.stdout.readline()))
        for name, unit, step in _cases(client, arguments.records):
            rates = [_rate(step, arguments.seconds) for _ in range(arguments.repeats)]
            middle, low, high = statistics.median(rates), min(rates), max(rates)
            print(f"{name:<24} {middle:>12,.0f} {unit}/s  ({low:,.0f} to {high:,.0f})", flush=True)
        client.close()
        server.terminate()


def _cases(client: _RawClient, records: int) -> list[tuple[str, str, Callable[[], int]]]:
    start = client.iterator("TRIM_HORIZON")
    batch = [{"Data": os.urandom(_DATA_BYTES), "PartitionKey": f"key-{i:08d}"} for i in range(500)]
    put = msgspec.json.encode({"StreamName": "puts", "Records": batch})
    tip = msgspec.json.encode({"ShardIterator": client.iterator("LATEST")})

    puts = 0

    def put_records() -> int:
        nonlocal puts
        if puts % 400 == 0:
            # A stream of their own, so that what is read stays, and a new one before it grows big.
            if puts:
                client.call("DeleteStream", b'{"StreamName":"puts"}')
            client.call("CreateStream", b'{"StreamName":"puts","ShardCount":1}')
        puts += 1
        client.call("PutRecords", put)
        return len(batch)

    def poll_tip() -> int:
        client.call("GetRecords", tip)
        return 1

    return [
        ("GetRecords Limit=10000", "records", _Reader(client, start, records, 10_000).step),
        ("GetRecords Limit=1000", "records", _Reader(client, start, records, 1_000).step),
        ("GetRecords at the tip", "requests", poll_tip),
        ("PutRecords of 500", "records", put_records),
    ]


def _rate(step: Callable[[], int], seconds: float) -> float:
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        done += step()
    return done / elapsed


class _Reader:
    """Reads the shard from its start to its end, again and again."""

    def __init__(self, client: _RawClient, start: str, records: int, limit: int) -> None:
        self._client = client
        self._start = self._iterator = start
        self._records = records
        self._limit = limit
        self._read = 0

    def step(self) -> int:
        if self._read + self._limit > self._records:
            self._iterator, self._read = self._start, 0
        request = {"ShardIterator": self._iterator, "Limit": self._limit}
        body = self._client.call("GetRecords", msgspec.json.encode(request))
        tail = bytes(body[-400:])
        at = tail.index(b'"NextShardIterator":"') + 21
        self._iterator = tail[at : tail.index(b'"', at)].decode()
        self._read += self._limit
        return self._limit


class _RawClient:
    """One keep-alive connection with the headers that an AWS client sends."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._head = (
            "POST / HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\n"
            "Content-Type: application/x-amz-json-1.1\r\n"
            "User-Agent: aiobotocore/3 md/Botocore#1.43 ua/2.1 os/linux md/arch#x86_64\r\n"
            "X-Amz-Date: 20260101T000000Z\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential=x, Signature={'0' * 64}\r\n"
        )

    def close(self) -> None:
        self._socket.close()

    def iterator(self, kind: str) -> str:
        request = {"StreamName": _STREAM, "ShardId": _SHARD, "ShardIteratorType": kind}
        answer = self.call("GetShardIterator", msgspec.json.encode(request))
        text: str = json.loads(bytes(answer))["ShardIterator"]
        return text

    def call(self, operation: str, body: bytes) -> memoryview:
        """Send a request; return the body, which the next call overwrites."""
        head = f"X-Amz-Target: Kinesis_20131202.{operation}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall((self._head + head).encode() + body)
        received, start, end = 0, 0, _BUFFER_BYTES
        while received < end:
            count = self._socket.recv_into(self._view[received:])
            if count == 0:
                raise ConnectionError(f"the server closed the connection during {operation}")
            received += count
            if start == 0 and (split := self._buffer.find(b"\r\n\r\n", 0, min(received, 4096))) > 0:
                lines = bytes(self._buffer[:split]).decode().lower().split("\r\n")
                length = next(line for line in lines if line.startswith("content-length:"))
                start = split + 4
                end = start + int(length.partition(":")[2])
                if " 200 " not in lines[0]:
                    raise RuntimeError(f"{operation}: {lines[0]}")
        return self._view[start:end]


def _serve(records: int) -> None:
    import uvloop

    from streamproc.testing.localkinesis import LocalKinesis, serve

    def fill(kinesis: LocalKinesis) -> None:
        batch = [{"Data": os.urandom(_DATA_BYTES), "PartitionKey": f"{i:012d}"} for i in range(500)]
        body = msgspec.json.encode({"StreamName": _STREAM, "Records": batch})
        for _ in range(records // len(batch)):
            kinesis.core.handle("PutRecords", body)
        print(kinesis.port, flush=True)

    _pin(0)
    uvloop.run(serve(port=0, streams={_STREAM: 1}, on_ready=fill))


def _pin(core: int) -> None:
    if sys.platform == "linux" and core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})


if __name__ == "__main__":
    main()
