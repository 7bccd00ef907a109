"""The client against a scripted server, over a socket in memory."""

import asyncio
import tempfile
import unittest
from pathlib import Path
from random import Random
from typing import Any

from borealis import client as client_module
from borealis.client import Client, RequestError
from borealis.enrol import EnrolError
from borealis.frames import Frame, decode_message, encode_frame, frame
from borealis.inbox import Inbox
from borealis.state import Identity, Registration, StateFile
from borealis.websocket import CannotOpen, SocketClosed


class Pipe:
    """One connection, of which the test is the server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.to_device: asyncio.Queue[bytes | int] = asyncio.Queue()
        self.to_server: asyncio.Queue[Frame] = asyncio.Queue()
        self.closed_by_device: int | None = None

    async def receive(self) -> bytes:
        item = await self.to_device.get()
        if isinstance(item, int):
            raise SocketClosed(item)
        return item

    async def send(self, data: bytes) -> None:
        for value in decode_message(data, "device").frames:
            self.to_server.put_nowait(value)

    async def close(self, code: int, reason: str) -> None:
        self.closed_by_device = code

    async def expect(self, type: str) -> Frame:
        value = await asyncio.wait_for(self.to_server.get(), 5)
        assert value.type == type, f"{value.type}, not {type}"
        return value

    def write(self, *frames: Frame) -> None:
        self.to_device.put_nowait(b"".join(encode_frame(value) for value in frames))

    def welcome(self, **fields: Any) -> None:
        self.write(frame("WELCOME", server_time_ms=1_000_000, keepalive_seconds=100, **fields), frame("CAUGHT_UP"))


client_module.BYE_TIMEOUT_S = 0.05
"""Short, because the scripted server seldom answers BYE."""


class Soon(Random):
    """Draws the shortest time of every range."""

    def uniform(self, a: float, b: float) -> float:
        return a


class ClientCase(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = StateFile(Path(folder.name) / "state.json")
        state = self.file.load()
        state.identity = Identity("dev_1", "the-token", "", "ws://here/v1/device")
        self.file.save(state)
        self.events: list[dict[str, Any]] = []
        self.pipes: asyncio.Queue[Pipe] = asyncio.Queue()
        self.start()

    def start(self) -> None:
        self.client = Client(self.file, self.events.append, open_socket=self.open, random=Soon())
        self.running = asyncio.ensure_future(self.client.run())

    async def asyncTearDown(self) -> None:
        self.client.stop()
        await asyncio.wait_for(self.running, 5)

    async def open(self, url: str) -> Pipe:
        if "nowhere" in url:
            raise CannotOpen("nowhere")
        pipe = Pipe(url)
        self.pipes.put_nowait(pipe)
        return pipe

    async def connected(self, **fields: Any) -> tuple[Pipe, Frame]:
        pipe = await asyncio.wait_for(self.pipes.get(), 5)
        hello = await pipe.expect("HELLO")
        self.assertEqual(self.file.load().connection, hello["connection"], "durable before HELLO")
        pipe.welcome(**fields)
        return pipe, hello

    async def registered(self, pipe: Pipe) -> None:
        asking = asyncio.ensure_future(self.client.register("app"))
        request = await pipe.expect("REGISTER")
        pipe.write(frame("REGISTERED", request=request["request"], registration=1, registration_id="r1", subscriptions=1))
        await asyncio.wait_for(asking, 5)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]


class ClientTest(ClientCase):
    async def test_a_push_is_durable_before_its_ack_and_shown_once(self) -> None:
        pipe, hello = await self.connected()
        self.assertEqual(hello["credential"], ("token", "the-token"))
        await self.registered(pipe)
        push = frame("NOTIFY", id=7, registration=1, expires_at_seconds=2_000, title="Hi", data=b"\xc0")
        pipe.write(push, push)
        self.assertEqual((await pipe.expect("ACK"))["ids"], [7, 7])
        self.assertIn(7, self.file.load().seen)
        pipe.write(push)
        await pipe.expect("ACK")
        self.assertEqual([(event["title"], event["data"]) for event in self.of("notification")], [("Hi", {})])

    async def test_topics_are_names_within_a_project(self) -> None:
        pipe, _ = await self.connected()
        for number, application, project in ((1, "a", "acme"), (2, "b", "other")):
            asking = asyncio.ensure_future(self.client.register(application))
            request = (await pipe.expect("REGISTER"))["request"]
            pipe.write(frame("REGISTERED", request=request, registration=number, project=project, subscriptions=number))
            self.assertEqual((await asyncio.wait_for(asking, 5)).project, project)
            joining = asyncio.ensure_future(self.client.subscribe(application, "news"))
            request = (await pipe.expect("SUBSCRIBE"))["request"]
            pipe.write(frame("DONE", request=request, subscriptions=number))
            await asyncio.wait_for(joining, 5)
        for number, project in enumerate(("acme", "other", "third"), 1):
            pipe.write(frame("NOTIFY_GROUP", id=number, sequence=number, target=("topic", "news"), project=project,
                             expires_at_seconds=2_000))
        pipe.to_device.put_nowait(1006)
        await self.connected()
        self.assertEqual([event["applications"] for event in self.of("notification")], [["a"], ["b"]])

    async def test_ticket_then_bad_ticket_then_token(self) -> None:
        pipe, _ = await self.connected(ticket=b"\x01\x02", ticket_seconds=60)
        pipe.to_device.put_nowait(1006)
        pipe, hello = await self.connected(ticket=b"\x03", ticket_seconds=60)
        self.assertEqual((hello["credential"], hello["connection"]), (("ticket", b"\x01\x02"), 2))
        pipe.to_device.put_nowait(4012)
        _, hello = await self.connected()
        self.assertEqual(hello["credential"], ("token", "the-token"))

    async def test_stale_connection_is_raised(self) -> None:
        pipe = await asyncio.wait_for(self.pipes.get(), 5)
        await pipe.expect("HELLO")
        pipe.write(frame("ERROR", code="stale_connection", connection=41))
        pipe.to_device.put_nowait(4020)
        pipe = await asyncio.wait_for(self.pipes.get(), 5)
        self.assertEqual((await pipe.expect("HELLO"))["connection"], 42)
        pipe.to_device.put_nowait(4020)
        _, hello = await self.connected()
        self.assertEqual(hello["connection"], 42 + 16**2, "the second refusal in a row: by 16^2")

    async def test_cursor_and_gap_mark_come_back(self) -> None:
        pipe, _ = await self.connected()
        cursor = {"incarnation": 5, "sequence": 50, "subscriptions": 3}
        mark = {"queue": 9, "count": 12}
        pipe.write(frame("CAUGHT_UP", cursor=cursor), frame("GAP", count=5, reason="queue_overflow", mark=mark))
        pipe.write(frame("NOTIFY_GROUP", id=1, sequence=57), frame("GAP", count=5, reason="queue_overflow", mark=mark))
        pipe.to_device.put_nowait(1001)
        _, hello = await self.connected()
        self.assertEqual((hello["cursor"], hello["gap"]), ({**cursor, "sequence": 57}, mark))
        self.assertEqual([event["count"] for event in self.of("gap")], [12])
        self.assertTrue(pipe.to_server.empty(), "a group notification is not acknowledged")

    async def test_another_version_of_subscriptions_repeats_everything(self) -> None:
        pipe, _ = await self.connected()
        await self.registered(pipe)
        joining = asyncio.ensure_future(self.client.subscribe("app", "news"))
        request = await pipe.expect("SUBSCRIBE")
        pipe.write(frame("DONE", request=request["request"], subscriptions=2))
        await asyncio.wait_for(joining, 5)
        pipe.to_device.put_nowait(1006)
        pipe, _ = await self.connected(subscriptions=9)
        request = await pipe.expect("REGISTER")
        pipe.write(frame("REGISTERED", request=request["request"], registration=4, registration_id="r4", subscriptions=9))
        request = await pipe.expect("SUBSCRIBE")
        self.assertEqual((request["registration"], request["topic"], self.file.load().subscriptions), (4, "news", 2))
        pipe.write(frame("DONE", request=request["request"], subscriptions=9), frame("PONG"))
        await asyncio.sleep(0.05)
        self.assertEqual(self.file.load().subscriptions, 9)

    async def test_what_comes_before_registered_is_shown_after_it(self) -> None:
        pipe, _ = await self.connected()
        asking = asyncio.ensure_future(self.client.register("app"))
        request = (await pipe.expect("REGISTER"))["request"]
        pipe.write(frame("NOTIFY", id=1, registration=4, expires_at_seconds=2_000))
        self.assertEqual((await pipe.expect("ACK"))["ids"], [1])
        self.assertEqual(self.of("notification"), [])
        pipe.write(frame("REGISTERED", request=request, registration=4, subscriptions=1))
        await asyncio.wait_for(asking, 5)
        self.assertEqual([event["id"] for event in self.of("notification")], ["1"])
        self.assertEqual(self.file.load().pending, [])

    async def test_an_unknown_registration_is_registered_anew_for_its_topic(self) -> None:
        pipe, _ = await self.connected()
        await self.registered(pipe)
        joining = asyncio.ensure_future(self.client.subscribe("app", "news"))
        request = await pipe.expect("SUBSCRIBE")
        pipe.write(frame("ERROR", request=request["request"], code="unknown_registration"))
        request = await pipe.expect("REGISTER")
        pipe.write(frame("REGISTERED", request=request["request"], registration=2, subscriptions=2))
        request = await pipe.expect("SUBSCRIBE")
        self.assertEqual(request["registration"], 2)
        pipe.write(frame("DONE", request=request["request"], subscriptions=3))
        await asyncio.wait_for(joining, 5)

    async def test_an_expired_token_is_not_repeated(self) -> None:
        state = self.file.load()
        self.client.state.registrations.append(Registration("app", "e30.eyJzdWIiOiJhbm4iLCJleHAiOjEwfQ.x", 1, topics=["t"]))
        self.client.state.registrations.append(Registration("other", number=2))
        pipe, _ = await self.connected(subscriptions=5)
        request = await pipe.expect("REGISTER")
        self.assertEqual(request["application"], "other")
        pipe.write(frame("REGISTERED", request=request["request"], registration=2, subscriptions=5), frame("PONG"))
        await asyncio.sleep(0.05)
        self.assertTrue(pipe.to_server.empty(), "neither the user's REGISTER nor its topic")
        self.assertEqual(self.file.load().subscriptions, state.subscriptions, "not heard: it is not known to be the same")

    async def test_no_number_above_is_left(self) -> None:
        pipe = await asyncio.wait_for(self.pipes.get(), 5)
        await pipe.expect("HELLO")
        pipe.write(frame("ERROR", code="stale_connection", connection=2**53 - 1))
        pipe.to_device.put_nowait(4020)
        await asyncio.wait_for(self.running, 5)
        self.assertEqual([event["next"] for event in self.of("closed")], ["stop"])

    async def test_a_request_that_is_refused(self) -> None:
        pipe, _ = await self.connected()
        asking = asyncio.ensure_future(self.client.register("other"))
        request = await pipe.expect("REGISTER")
        pipe.write(frame("ERROR", request=request["request"], code="unavailable", retry_after_ms=10))
        request = await pipe.expect("REGISTER")
        pipe.write(frame("ERROR", request=request["request"], code="unknown_application"))
        with self.assertRaises(RequestError):
            await asyncio.wait_for(asking, 5)

    async def test_goaway_elsewhere_and_back(self) -> None:
        pipe, _ = await self.connected()
        pipe.write(frame("GOAWAY", after_ms=20, url="wss://there/v1/device"))
        other, _ = await self.connected()
        self.assertEqual((other.url, pipe.closed_by_device), ("wss://there/v1/device", 1000))
        other.write(frame("GOAWAY", after_ms=20, jitter_ms=1, url="ws://nowhere/"))
        back, hello = await self.connected()
        self.assertEqual((back.url, hello["connection"]), ("ws://here/v1/device", 3))

    async def test_bad_ticket_that_answers_a_token_stops(self) -> None:
        pipe, _ = await self.connected()
        pipe.to_device.put_nowait(4012)
        await asyncio.wait_for(self.running, 5)
        self.assertEqual([event["next"] for event in self.of("closed")], ["stop"])

    async def test_replaced_stops(self) -> None:
        pipe, _ = await self.connected()
        pipe.to_device.put_nowait(4021)
        self.assertEqual((await asyncio.wait_for(self.running, 5)).code, 4021)
        self.assertEqual([event["next"] for event in self.of("closed")], ["stop"])

    async def test_bytes_that_are_no_frame_are_closed_with_their_code(self) -> None:
        pipe, _ = await self.connected()
        pipe.to_device.put_nowait(b"\x01\x07")
        await self.connected()
        self.assertEqual(pipe.closed_by_device, 4002)

    async def test_what_a_crash_left_is_handed_over_at_the_start(self) -> None:
        pipe, _ = await self.connected()
        await self.registered(pipe)
        self.client.stop()
        await pipe.expect("BYE")
        pipe.to_device.put_nowait(1000)
        await asyncio.wait_for(self.running, 5)
        state = self.file.load()
        for number, expires in ((5, 2**32 - 1), (6, 0)):
            Inbox(state).accept(
                frame("NOTIFY", id=number, registration=1, expires_at_seconds=expires), 0
            )
        self.file.save(state)
        self.start()
        await self.connected(subscriptions=1)
        self.assertEqual([(event["id"], event["possibleDuplicate"]) for event in self.of("notification")], [("5", True)])
        self.assertEqual(self.file.load().pending, [])


class RenewalTest(ClientCase):
    """The same client with a core that renews its token as `answers` says."""

    async def asyncSetUp(self) -> None:
        self.answers: list[Identity | EnrolError] = []
        self.asked: list[str] = []
        await super().asyncSetUp()

    def start(self) -> None:
        state = self.file.load()
        assert state.identity is not None
        state.identity.core_url = "http://core"
        self.file.save(state)
        self.client = Client(self.file, self.events.append, open_socket=self.open, random=Soon(), renew_token=self.renew)
        self.running = asyncio.ensure_future(self.client.run())

    def renew(self, identity: Identity) -> Identity:
        self.asked.append(identity.token)
        answer = self.answers.pop(0)
        if isinstance(answer, EnrolError):
            raise answer
        return answer

    async def test_a_token_that_ended_is_renewed_and_the_answer_may_be_lost(self) -> None:
        pipe, _ = await self.connected(ticket=b"t", ticket_seconds=1_000)
        self.answers = [EnrolError("unreachable", "lost", 0), Identity("dev_1", "new", "", "ws://here", "http://core")]
        pipe.to_device.put_nowait(4011)
        _, hello = await self.connected()
        self.assertEqual(self.asked, ["the-token", "the-token"])
        self.assertEqual(hello["credential"], ("token", "new"))
        identity = self.file.load().identity
        assert identity is not None
        self.assertEqual((identity.device_id, identity.token, self.file.load().connection), ("dev_1", "new", 2))

    async def test_a_live_device_renews_in_time_and_shows_the_token_once(self) -> None:
        pipe, _ = await self.connected()
        self.client.stop()
        await asyncio.wait_for(self.running, 5)
        state = self.file.load()
        assert state.identity is not None
        state.identity.renew_at_ms = 1
        self.file.save(state)
        self.answers = [Identity("dev_1", "new", "", "ws://here", "http://core")]
        self.start()
        pipe = await asyncio.wait_for(self.pipes.get(), 5)
        hello = await pipe.expect("HELLO")
        self.assertEqual(hello["credential"], ("token", "the-token"))
        pipe.welcome()
        await pipe.expect("BYE")
        pipe, hello = await self.connected()
        self.assertEqual(hello["credential"], ("token", "new"))
        await asyncio.sleep(0.1)
        self.assertTrue(self.pipes.empty(), "and stays")

    async def test_a_refused_renewal_ends_the_identity_durably(self) -> None:
        pipe, _ = await self.connected()
        self.answers = [EnrolError("token_expired", "the grace is over", None)]
        pipe.to_device.put_nowait(4011)
        ended = await asyncio.wait_for(self.running, 5)
        self.assertEqual(ended.code, 4011)
        identity = self.file.load().identity
        assert identity is not None
        self.assertTrue(identity.over)


if __name__ == "__main__":
    unittest.main()
