"""The pool of connections against servers that misbehave in every way they can."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import selectors
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from streamproc.kinesis import connection, transport
from streamproc.kinesis.connection import Answer, Connection
from streamproc.kinesis.transport import HttpPool

REQUEST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Serves one connection after the other by `talk`, and counts them."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = 0
        self.url = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has gone

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()

    async def gone(self) -> None:
        """Wait until what hung up has closed its connections."""
        await asyncio.gather(*[writer.wait_closed() for writer in self._writers])


@asynccontextmanager
async def serving(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(talk)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        server.hang_up()
        listening.close()
        await listening.wait_closed()


@asynccontextmanager
async def pooled(
    url: str,
    *,
    timeout: float = 5.0,
    limit: int = 10,
    idle: float = 30.0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[HttpPool]:
    pool = HttpPool(url, tls, timeout, limit, idle)
    try:
        yield pool
    finally:
        pool.close()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(len(REQUEST))


def answering(*parts: bytes, close: bool = False) -> Talk:
    """Answer every request with `parts`, each sent on its own."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if close:
                writer.close()
                return

    return talk


async def test_a_connection_serves_one_call_after_the_other() -> None:
    async with serving(answering(OK)) as server, pooled(server.url) as pool:
        assert [await pool.post(REQUEST) for _ in range(5)] == [(200, b"yes")] * 5
        assert server.connections == 1


async def test_calls_at_a_time_have_connections_of_their_own_up_to_the_limit() -> None:
    async with serving(answering(OK)) as server, pooled(server.url, limit=3) as pool:
        answers = await asyncio.gather(*[pool.post(REQUEST) for _ in range(20)])
        assert answers == [(200, b"yes")] * 20
        assert server.connections <= 3


@pytest.mark.parametrize(
    "parts",
    [
        [OK[:5], OK[5:20], OK[20:40], OK[40:]],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nye\r\n1\r\ns\r\n0\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n" + OK],
    ],
    ids=["in pieces", "chunked", "after a 100"],
)
async def test_an_answer_may_come_in_any_form(parts: list[bytes]) -> None:
    async with serving(answering(*parts)) as server, pooled(server.url) as pool:
        assert [await pool.post(REQUEST) for _ in range(2)] == [(200, b"yes")] * 2
        assert server.connections == 1


async def test_other_statuses_are_answers() -> None:
    refused = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with serving(answering(refused)) as server, pooled(server.url) as pool:
        assert [await pool.post(REQUEST) for _ in range(2)] == [(503, b"")] * 2
        assert server.connections == 2, "a connection that the server will close is not kept"


async def test_a_kept_connection_that_the_server_closed_is_replaced_unnoticed() -> None:
    async with serving(answering(OK)) as server, pooled(server.url) as pool:
        await pool.post(REQUEST)
        server.hang_up()
        assert await pool.post(REQUEST) == (200, b"yes")
        assert server.connections == 2


async def test_a_server_that_closes_when_asked_again_is_asked_on_a_new_connection() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)
        await request_of(reader)
        writer.close()

    async with serving(once) as server, pooled(server.url) as pool:
        assert [await pool.post(REQUEST) for _ in range(3)] == [(200, b"yes")] * 3
        assert server.connections == 3


@pytest.mark.parametrize(
    "parts",
    [[b""], [OK[:20]], [OK[:-1]], [b"this is no HTTP\r\n\r\n"]],
    ids=["nothing", "half a head", "half a body", "garbage"],
)
async def test_a_broken_answer_is_an_error_and_the_next_call_is_not_touched(
    parts: list[bytes],
) -> None:
    async with serving(answering(*parts, close=True)) as server, pooled(server.url) as pool:
        with pytest.raises(ConnectionError):
            await pool.post(REQUEST)
        server.talk = answering(OK)
        assert await pool.post(REQUEST) == (200, b"yes")


async def test_silence_ends_after_the_timeout() -> None:
    async with serving(answering(OK[:20])) as server, pooled(server.url, timeout=0.1) as pool:
        with pytest.raises(TimeoutError, match=r"no answer in 0\.1 s"):
            await pool.post(REQUEST)
        server.talk = answering(OK)
        assert await pool.post(REQUEST) == (200, b"yes")


async def test_a_call_that_is_given_up_leaves_no_answer_for_the_next() -> None:
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        asked.set()
        await given_up.wait()
        writer.write(OK.replace(b"yes", b"old"))
        await request_of(reader)
        writer.write(OK)

    async with serving(late) as server, pooled(server.url) as pool:
        call = asyncio.create_task(pool.post(REQUEST))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        server.talk = answering(OK)
        given_up.set()
        assert await pool.post(REQUEST) == (200, b"yes")
        assert server.connections == 2


@pytest.mark.parametrize("surplus", [OK, OK[:20], b"H"], ids=["an answer", "half a head", "a byte"])
async def test_an_answer_without_a_question_costs_its_connection_only(surplus: bytes) -> None:
    async with serving(answering(OK + surplus)) as server, pooled(server.url) as pool:
        assert [await pool.post(REQUEST) for _ in range(3)] == [(200, b"yes")] * 3
        assert server.connections == 3


async def test_what_nobody_uses_is_closed() -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)
        await reader.read()
        closed.set()

    async with serving(talk) as server, pooled(server.url, idle=0.05) as pool:
        await pool.post(REQUEST)
        await asyncio.wait_for(closed.wait(), 5)


async def test_closing_the_pool_ends_calls_under_way() -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        asked.set()
        await reader.read()

    async with serving(silent) as server, pooled(server.url) as pool:
        call = asyncio.create_task(pool.post(REQUEST))
        await asked.wait()
        pool.close()
        with pytest.raises(ConnectionAbortedError):
            await call


async def test_closing_the_pool_ends_calls_that_were_to_be_sent() -> None:
    async with serving(answering(OK)) as server, pooled(server.url) as pool:
        done: asyncio.Queue[Answer | OSError] = asyncio.Queue()
        await pool.post(REQUEST)
        assert pool.post_at_once([REQUEST], [done.put_nowait])
        pool.close()
        assert isinstance(await done.get(), ConnectionError)
        assert not pool.post_at_once([REQUEST], [done.put_nowait])


async def test_a_request_is_sent_at_once_on_a_kept_connection_that_is_free() -> None:
    async with serving(answering(OK)) as server, pooled(server.url, limit=2) as pool:
        answers: asyncio.Queue[Answer | OSError] = asyncio.Queue()
        assert not pool.post_at_once([REQUEST], [answers.put_nowait]), "there is no connection yet"
        await pool.post(REQUEST)
        assert pool.post_at_once([REQUEST], [answers.put_nowait])
        assert not pool.post_at_once([REQUEST], [answers.put_nowait]), "the only one is in use"
        assert await answers.get() == (200, b"yes")
        assert pool.post_at_once([REQUEST], [answers.put_nowait]), "it is free again"
        await answers.get()
        assert server.connections == 1
        assert answers.empty()


async def test_calls_sent_at_once_count_against_the_limit() -> None:
    async with serving(answering(OK)) as server, pooled(server.url, limit=2) as pool:
        done: asyncio.Queue[Answer | OSError] = asyncio.Queue()
        await asyncio.gather(pool.post(REQUEST), pool.post(REQUEST))
        assert pool.post_at_once([REQUEST], [done.put_nowait])
        assert pool.post_at_once([REQUEST], [done.put_nowait])
        assert not pool.post_at_once([REQUEST], [done.put_nowait])
        assert await pool.post(REQUEST) == (200, b"yes"), "it gets the turn of one that is done"
        assert server.connections <= 2


async def test_of_many_calls_those_that_have_a_connection_are_sent() -> None:
    async with serving(answering(OK)) as server, pooled(server.url, limit=3) as pool:
        await asyncio.gather(*[pool.post(REQUEST) for _ in range(3)])
        answers: asyncio.Queue[tuple[int, Answer | OSError]] = asyncio.Queue()
        dones = [partial(_tell, answers, n) for n in range(5)]
        assert pool.post_at_once([REQUEST] * 5, dones) == 3, "the others would have to wait"
        assert pool.post_at_once([], []) == 0
        told = [await answers.get() for _ in range(3)]
        assert sorted(told, key=lambda each: each[0]) == [(n, (200, b"yes")) for n in range(3)]
        assert answers.empty()
        assert server.connections == 3


def _tell(
    told: asyncio.Queue[tuple[int, Answer | OSError]], n: int, what: Answer | OSError
) -> None:
    told.put_nowait((n, what))


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
async def test_calls_sent_together_each_have_their_own_outcome(
    secured: bool, tmp_path: Path
) -> None:
    """Whatever the others' are: refused, cut off, no HTTP, never there, in pieces."""
    refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\noops"
    answers = [OK, refused, OK[:-1], b"this is no HTTP\r\n\r\n", b"", OK]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)
        request = await request_of(reader)
        answer = answers[int(request[-1:])]
        for at in range(0, len(answer), 20):
            writer.write(answer[at : at + 20])
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.close()

    theirs, trusting = tls_of_both_sides(tmp_path) if secured else (None, None)
    async with serving(talk, theirs) as server, pooled(server.url, tls=trusting) as pool:
        await asyncio.gather(*[pool.post(REQUEST) for _ in answers])
        told: asyncio.Queue[tuple[int, Answer | OSError]] = asyncio.Queue()
        requests = [REQUEST[:-1] + b"%d" % n for n in range(len(answers))]
        dones = [partial(_tell, told, n) for n in range(len(answers))]
        assert pool.post_at_once(requests, dones) == len(answers)
        async with asyncio.timeout(5):
            outcomes = dict([await told.get() for _ in answers])
        assert outcomes[0] == outcomes[5] == (200, b"yes")
        assert outcomes[1] == (400, b"oops")
        assert all(isinstance(outcomes[n], ConnectionError) for n in (2, 3, 4))


async def test_a_call_sent_at_once_tells_of_its_failure() -> None:
    asked = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)
        await request_of(reader)
        asked.set()
        writer.close()

    async with serving(once) as server, pooled(server.url) as pool:
        done: asyncio.Queue[Answer | OSError] = asyncio.Queue()
        await pool.post(REQUEST)
        assert pool.post_at_once([REQUEST], [done.put_nowait])
        await asked.wait()
        assert isinstance(await done.get(), ConnectionError)
        assert not pool.post_at_once([REQUEST], [done.put_nowait]), "the connection is gone"


async def test_awaited_calls_and_others_use_the_same_connections() -> None:
    async with serving(answering(OK)) as server, pooled(server.url, limit=4) as pool:
        done: asyncio.Queue[Answer | OSError] = asyncio.Queue()
        await asyncio.gather(*[pool.post(REQUEST) for _ in range(4)])
        async with asyncio.timeout(5):
            for turn in range(20):
                assert all(pool.post_at_once([REQUEST], [done.put_nowait]) for _ in range(3))
                if turn % 2:
                    assert await pool.post(REQUEST) == (200, b"yes")
                assert [await done.get() for _ in range(3)] == [(200, b"yes")] * 3
        assert server.connections == 4


async def test_nothing_is_sent_at_once_on_a_connection_that_was_closed_meanwhile() -> None:
    async with serving(answering(OK)) as server, pooled(server.url) as pool:
        done: asyncio.Queue[Answer | OSError] = asyncio.Queue()
        await pool.post(REQUEST)
        assert pool.post_at_once([REQUEST], [done.put_nowait])
        await done.get()
        server.hang_up()
        await server.gone()
        assert not pool.post_at_once([REQUEST], [done.put_nowait])


def self_signed(directory: Path) -> Path:
    """Write a key and a certificate for 127.0.0.1 into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def tls_of_both_sides(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context, and one of a client that trusts it."""
    path = self_signed(directory)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(path)
    return theirs, ssl.create_default_context(cafile=str(path))


async def test_tls_is_spoken_with_whom_is_trusted_and_nobody_else(tmp_path: Path) -> None:
    theirs, trusting = tls_of_both_sides(tmp_path)
    async with serving(answering(OK), theirs) as server:
        async with pooled(server.url, tls=trusting) as pool:
            assert await pool.post(REQUEST) == (200, b"yes")
            done: asyncio.Queue[Answer | OSError] = asyncio.Queue()
            assert pool.post_at_once([REQUEST], [done.put_nowait])
            assert await done.get() == (200, b"yes")
            assert server.connections == 1
        async with pooled(server.url, tls=ssl.create_default_context()) as pool:
            with pytest.raises(ssl.SSLCertVerificationError):
                await pool.post(REQUEST)


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
async def test_a_long_answer_does_not_wait_for_a_look_at_each_piece(
    secured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "LOOK_S", 0.5)
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + bytes(10_000_000)
    theirs, trusting = tls_of_both_sides(tmp_path) if secured else (None, None)
    async with (
        serving(answering(long), theirs) as server,
        pooled(server.url, tls=trusting) as pool,
        asyncio.timeout(10),  # By looks alone it would take 20, and under TLS 300.
    ):
        await pool.post(REQUEST)
        done: asyncio.Queue[Answer | OSError] = asyncio.Queue()
        assert pool.post_at_once([REQUEST], [done.put_nowait])
        assert await done.get() == (200, bytes(10_000_000))
        assert server.connections == 1


async def test_what_has_come_of_a_long_answer_is_taken_at_one_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_CHUNK", 1_000)
    ours, theirs = socket.socketpair()
    answers: list[Answer | OSError] = []
    with theirs, selectors.DefaultSelector() as selector:
        ours.setblocking(False)
        asking = Connection(ours, selector, 0.0)
        asking.send(REQUEST, lambda _, outcome: answers.append(outcome), 1.0)
        body = b"x" * 20_000
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:-1])
        asking.receive()
        asking.parse(2.0)
        asking.read_on(3.0)
        assert (answers, asking.is_answering) == ([], True)
        theirs.sendall(body[-1:])
        asking.read_on(3.0)
        assert answers == [(200, body)]
        asking.abort(ConnectionAbortedError("done"))
