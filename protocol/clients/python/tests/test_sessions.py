"""The client replays protocol/vectors/sessions.json: it sends and remembers what each session says."""

import asyncio
import json
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from borealis import client as client_module
from borealis.client import Client
from borealis.frames import Frame
from borealis.json_form import frame_to_json
from borealis.state import Identity, Registration, StateFile

from tests.test_client import Pipe, Soon

SESSIONS = Path(__file__).resolve().parents[3] / "vectors" / "sessions.json"
KEEPALIVE_MS = 120_000


class SessionsTest(unittest.IsolatedAsyncioTestCase):
    async def test_every_session(self) -> None:
        sessions = json.loads(SESSIONS.read_text("utf-8"))["sessions"]
        self.assertGreaterEqual(len(sessions), 10)
        for session in sessions:
            with self.subTest(session["name"]), tempfile.TemporaryDirectory() as folder:
                await Replay(self, session, StateFile(Path(folder) / "state.json")).run()


class WatchedPipe(Pipe):
    """A connection of which the test can tell when the device has acted on everything that came."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.idle = asyncio.Event()
        self.ended = asyncio.Event()

    async def receive(self) -> bytes:
        # The client asks for the next message after it has acted on the one before.
        if self.to_device.empty():
            self.idle.set()
        return await super().receive()

    def put(self, item: bytes | int) -> None:
        self.idle.clear()
        self.to_device.put_nowait(item)

    async def close(self, code: int, reason: str) -> None:
        await super().close(code, reason)
        self.ended.set()


class Replay:
    """The server's, the network's and the application's part of one session."""

    def __init__(self, test: unittest.TestCase, session: dict[str, Any], file: StateFile) -> None:
        self.test = test
        self.session = session
        self.file = file
        self.events: list[dict[str, Any]] = []
        self.pipes: asyncio.Queue[WatchedPipe] = asyncio.Queue()
        self.pipe: WatchedPipe | None = None
        self.asking: list[asyncio.Future] = []
        self.skipped_ms = 0.0

    async def run(self) -> None:
        self._prepare()
        real_ms = client_module.monotonic_ms
        with mock.patch.object(client_module, "monotonic_ms", lambda: real_ms() + self.skipped_ms):
            self.client = Client(self.file, self.events.append, open_socket=self._open, random=Soon())
            running = asyncio.ensure_future(self.client.run())
            for step in self.session["steps"]:
                await self._step(step)
            if self.session["stops"]:
                await asyncio.wait_for(running, 5)
            else:
                assert self.pipe is not None
                await asyncio.wait_for(self.pipe.idle.wait(), 5)
                self.test.assertFalse(running.done(), "the device stopped")
            self._check_end()
            self.client.stop()
            await asyncio.wait_for(running, 5)
        for asking in self.asking:
            self.test.assertIsNone(asking.exception() if asking.done() else "not answered")

    def _prepare(self) -> None:
        given = self.session["given"]
        state = self.file.load()
        state.identity = Identity("dev_1", given["token"], "", "ws://here/v1/device")
        state.connection = given["connection"]
        state.subscriptions = given["subscriptions"]
        state.cursor = _numbers(given["cursor"])
        state.gap = _numbers(given["gap"])
        for entry in given["registrations"]:
            state.registrations.append(
                Registration(
                    entry["application"],
                    number=entry["number"],
                    registration_id=entry["registrationId"],
                    project=entry["project"],
                    topics=list(entry["topics"]),
                )
            )
        self.file.save(state)

    async def _open(self, url: str) -> WatchedPipe:
        pipe = WatchedPipe(url)
        self.pipes.put_nowait(pipe)
        return pipe

    async def _step(self, step: dict[str, Any]) -> None:
        if "close" in step:
            await self._close(step)
        elif step["direction"] == "server":
            assert self.pipe is not None
            self.pipe.put(bytes.fromhex(step["hex"]))
        else:
            for wanted in step["frames"]:
                await self._expect(step, wanted)

    async def _close(self, step: dict[str, Any]) -> None:
        pipe, self.pipe = self.pipe, None
        assert pipe is not None
        if step["direction"] != "device":
            pipe.put(step["close"])
            return
        await asyncio.wait_for(pipe.ended.wait(), 5)
        self.test.assertEqual(pipe.closed_by_device, step["close"], step["meaning"])

    async def _expect(self, step: dict[str, Any], wanted: dict[str, Any]) -> None:
        if wanted["type"] == "HELLO":
            self.pipe = await asyncio.wait_for(self.pipes.get(), 5)
        if step.get("wish"):
            self._ask(wanted)
        if wanted["type"] == "PING":
            self.skipped_ms += KEEPALIVE_MS
            self.client._wake.set()
        assert self.pipe is not None
        sent: Frame = await self.pipe.expect(wanted["type"])
        actual = frame_to_json(sent)
        if sent.type == "HELLO":
            actual["client"] = None
        self.test.assertEqual(actual, wanted, step["meaning"])

    def _ask(self, wanted: dict[str, Any]) -> None:
        """Asks as the application would."""
        if wanted["type"] == "REGISTER":
            asking = self.client.register(wanted["application"])
        else:
            [entry] = [item for item in self.client.state.registrations if item.number == wanted["registration"]]
            asking = self.client.subscribe(entry.application, wanted["topic"])
        self.asking.append(asyncio.ensure_future(asking))

    def _check_end(self) -> None:
        session, test = self.session, self.test
        handed_over = [event["id"] for event in self.events if event["event"] == "notification"]
        gaps = [{"count": event["count"], "reason": event["reason"]} for event in self.events if event["event"] == "gap"]
        test.assertEqual(handed_over, session["handedOver"], "handed over")
        test.assertEqual(gaps, session["gaps"], "losses told")
        state = self.file.load()
        left = {
            "connection": state.connection,
            "cursor": _texts(state.cursor, "incarnation"),
            "gap": _texts(state.gap, "queue"),
            "subscriptions": state.subscriptions,
        }
        test.assertEqual(left, session["left"], "state")
        if self.pipe is not None:
            test.assertTrue(self.pipe.to_server.empty(), "the device sent nothing else")


def _numbers(value: dict[str, Any] | None) -> dict[str, int] | None:
    return None if value is None else {name: int(number) for name, number in value.items()}


def _texts(value: dict[str, int] | None, opaque: str) -> dict[str, Any] | None:
    return None if value is None else {**value, opaque: str(value[opaque])}
