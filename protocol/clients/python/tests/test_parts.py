"""The parts without I/O, and the state file."""

import json
import re
import tempfile
import unittest
from pathlib import Path
from random import Random

from borealis import limits
from borealis.connection import Connection
from borealis.enrol import read_identity, refusal
from borealis.frames import decode_message, encode_frame, frame
from borealis.inbox import HELD_MAX, Inbox
from borealis.limits import PONG_TIMEOUT_MS, SEEN_IDS, SEEN_KEEP_MS
from borealis.msgpack import DataError, read_data
from borealis.position import new_losses, note_caught_up, note_gap, note_sequence
from borealis.reconnect import CLOSE_NAMES, Backoff, goaway_url, next_after_close, next_after_error
from borealis.requests import Request, RequestTable
from borealis.state import DeviceState, Identity, Registration, StateFile, token_is_good, user_of

DOCUMENT = (Path(__file__).resolve().parents[3] / "PROTOCOL.md").read_text("utf-8")
WELCOME = encode_frame(frame("WELCOME", server_time_ms=1_000_000, keepalive_seconds=100))
NOTIFY = frame("NOTIFY", id=2**64 - 1, registration=1, expires_at_seconds=2_000)


class Msgpack(unittest.TestCase):
    def test_values(self) -> None:
        self.assertEqual(read_data(b""), {})
        self.assertEqual(read_data(bytes.fromhex("de0001a474797065a66e6f74696679")), {"type": "notify"})
        packed = bytes.fromhex("85a161c0a162ffa16392c3c2a164cb3ff8000000000000a165c4020102")
        self.assertEqual(read_data(packed), {"a": None, "b": -1, "c": [True, False], "d": 1.5, "e": b"\x01\x02"})

    def test_refused(self) -> None:
        for hexes in ("c0", "90", "8101c0", "81a161", "80c0", "81a161d40000", "81a161c1", "dfffffffff", "81a161ddffffffff"):
            with self.subTest(hexes), self.assertRaises(DataError):
                read_data(bytes.fromhex(hexes))
        read_data(b"\x81\xa1a" + b"\x91" * 15 + b"\xc0")
        with self.assertRaises(DataError):
            read_data(b"\x81\xa1a" + b"\x91" * 16 + b"\xc0")


class Codec(unittest.TestCase):
    def test_out_of_range(self) -> None:
        for bad in (frame("HELLO", connection=2**53), frame("REGISTER", application="\ud800"), frame("ACK", ids=[1] * 2048)):
            with self.subTest(bad.type), self.assertRaises(ValueError):
                encode_frame(bad)

    def test_cut_anywhere_gives_whole_frames_then_a_fault(self) -> None:
        data = WELCOME + encode_frame(NOTIFY)
        for end in range(1, len(data)):
            decoded = decode_message(data[:end], "server")
            self.assertEqual(len(decoded.frames), int(end >= len(WELCOME)))
            self.assertEqual(decoded.error, None if end == len(WELCOME) else "protocol_error")


class Position(unittest.TestCase):
    def test_marks_of_the_text(self) -> None:
        known = {"queue": 9, "count": 7}
        self.assertEqual(new_losses(known, {"queue": 9, "count": 12}), 5)
        self.assertEqual(new_losses({"queue": 9, "count": 12}, {"queue": 9, "count": 12}), 0)
        self.assertEqual(new_losses(known, {"queue": 31, "count": 2}), 2)
        state = DeviceState()
        gap = frame("GAP", count=5, reason="queue_overflow", mark={"queue": 9, "count": 12})
        self.assertEqual(note_gap(state, gap), {"count": 12, "reason": "queue_overflow"})
        self.assertIsNone(note_gap(state, gap))

    def test_cursor(self) -> None:
        state = DeviceState()
        note_sequence(state, 5)
        self.assertIsNone(state.cursor)
        note_caught_up(state, {"incarnation": 1, "sequence": 50, "subscriptions": 3})
        note_sequence(state, 57)
        note_sequence(state, 40)
        note_caught_up(state, {"incarnation": 1, "sequence": 52, "subscriptions": 3})
        self.assertEqual(state.cursor, {"incarnation": 1, "sequence": 57, "subscriptions": 3})
        note_caught_up(state, {"incarnation": 1, "sequence": 52, "subscriptions": 4})
        self.assertEqual(state.cursor, {"incarnation": 1, "sequence": 52, "subscriptions": 4})
        note_caught_up(state, None)
        note_caught_up(state, {"incarnation": 2, "sequence": 1, "subscriptions": 4})
        self.assertEqual(state.cursor, {"incarnation": 2, "sequence": 1, "subscriptions": 4})
        note_gap(state, frame("GAP", reason="log_reset"))
        self.assertEqual(state.cursor, {"incarnation": 2, "sequence": 1, "subscriptions": 4}, "until CAUGHT_UP")
        note_caught_up(state, {"incarnation": 2, "sequence": 0, "subscriptions": 4}, after_reset=True)
        self.assertEqual(state.cursor, {"incarnation": 2, "sequence": 0, "subscriptions": 4})


class Notifications(unittest.TestCase):
    def test_duplicates_expiry_and_unknown_registrations(self) -> None:
        state = DeviceState(registrations=[Registration("app", number=1, registration_id="r1")])
        inbox = Inbox(state)
        self.assertTrue(inbox.accept(NOTIFY, 0))
        self.assertFalse(inbox.accept(NOTIFY, 0))
        self.assertEqual([event["applications"] for event in inbox.hand_over(2_000_000)], [["app"]])
        self.assertEqual(inbox.hand_over(2_000_001), [])
        inbox.done()
        inbox.accept(frame("NOTIFY", id=3, registration=2, expires_at_seconds=2_000), 0)
        self.assertEqual(inbox.hand_over(0), [])
        inbox.done()
        inbox.accept(frame("NOTIFY", id=4, registration=1), 0)
        self.assertEqual(len(inbox.hand_over(5)), 1)
        self.assertEqual(Inbox(state).hand_over(5), [], "it was for the moment of its arrival, in an earlier run")

    def test_what_seems_expired_after_a_restart_waits_for_the_time_of_the_server(self) -> None:
        state = DeviceState(registrations=[Registration("app", number=1, registration_id="r1")])
        Inbox(state).accept(NOTIFY, 0)
        inbox = Inbox(state)
        self.assertEqual(inbox.hand_over(9_000_000, guessed=True), [])
        inbox.done()
        [event] = inbox.hand_over(1_999_999)
        self.assertEqual(event["possibleDuplicate"], True)
        inbox.done()
        self.assertEqual(state.pending, [])

    def test_what_is_early_is_held(self) -> None:
        state = DeviceState()
        inbox = Inbox(state)
        for number in range(1, HELD_MAX + 2):
            inbox.accept(frame("NOTIFY", id=number, registration=1), 0)
        self.assertEqual(inbox.hand_over(0, asking=True), [])
        inbox.done()
        self.assertEqual((len(state.pending), inbox.all_held), (HELD_MAX, True))
        state.registrations.append(Registration("app", number=1))
        self.assertEqual([event["id"] for event in inbox.hand_over(0, asking=True)][:2], ["2", "3"])
        inbox.done()
        inbox.accept(frame("NOTIFY", id=1_000, registration=2), 0)
        self.assertEqual((inbox.hand_over(0), inbox.all_held), ([], False))

    def test_a_user_is_one_whatever_the_token(self) -> None:
        earlier, later = "e30.eyJzdWIiOiJhbm4iLCJleHAiOjEwfQ.x", "e30.eyJzdWIiOiJhbm4iLCJleHAiOjIwfQ.x"
        state = DeviceState(registrations=[Registration("a", earlier, 1)])
        self.assertIs(state.registration_of("a", later), state.registrations[0])
        self.assertIsNone(state.registration_of("a"))
        self.assertEqual([token_is_good(earlier, 9), token_is_good(earlier, 10), token_is_good("", 10)], [True, False, True])

    def test_groups(self) -> None:
        user_token = "e30.eyJzdWIiOiJhbm4ifQ.x"
        self.assertEqual(user_of(user_token), "ann")
        self.assertIsNone(user_of("none"))
        first = Registration("a", number=1, project="acme", topics=["news"])
        state = DeviceState(registrations=[first, Registration("b", user_token, 2, project="acme")])
        targets = {("application", "b"): [2], ("topic", "news"): [1], ("user", "ann"): [2], ("user", "bob"): []}
        for target, numbers in targets.items():
            value = frame("NOTIFY_GROUP", id=1, target=target, project="acme")
            self.assertEqual([entry.number for entry in Inbox(state).receivers(value)], numbers)
        self.assertEqual(Inbox(state).receivers(frame("NOTIFY_GROUP", id=1)), [])

    def test_a_topic_that_no_registration_joined_is_for_all_of_its_project(self) -> None:
        entries = [Registration(str(number), number=number, project=project) for number, project in ((1, "acme"), (2, "other"))]
        inbox = Inbox(DeviceState(registrations=entries))
        inbox.accept(frame("NOTIFY_GROUP", id=1, target=("topic", "offers"), project="acme", expires_at_seconds=9), 0)
        self.assertEqual(inbox.hand_over(0, asking=True), [], "a SUBSCRIBE without answer may name one")
        [event] = inbox.hand_over(0)
        self.assertEqual(event["registrations"], [1])

    def test_forgetting(self) -> None:
        state = DeviceState(seen={number: 10**12 for number in range(SEEN_IDS + 5)})
        Inbox(state).forget(0)
        self.assertEqual((len(state.seen), min(state.seen)), (SEEN_IDS, 5))
        Inbox(state).accept(frame("NOTIFY", id=1), 10**12)
        Inbox(state).forget(10**12 + SEEN_KEEP_MS)
        self.assertEqual(list(state.seen), [1])


class Machine(unittest.TestCase):
    def setUp(self) -> None:
        self.machine = Connection(Random(1))
        self.machine.send(frame("HELLO", version=1, connection=1), 0)
        self.machine.take_output()

    def received(self, data: bytes | str, now_ms: float = 0) -> list[str]:
        return [value.type for value in self.machine.receive(data, now_ms)]

    def test_states(self) -> None:
        with self.assertRaises(RuntimeError):
            self.machine.send(frame("PING"), 0)
        caught_up = encode_frame(frame("CAUGHT_UP"))
        self.assertEqual(self.received(WELCOME + b"\x02\xf0\x00" + caught_up), ["WELCOME", "CAUGHT_UP"])
        self.assertEqual(self.machine.state, "live")
        self.assertEqual(self.received(encode_frame(NOTIFY) + WELCOME), ["NOTIFY"])
        self.assertEqual(self.machine.close_code, 4002)

    def test_faults(self) -> None:
        self.assertEqual(self.received(WELCOME + b"\x00"), ["WELCOME"])
        self.assertEqual(self.machine.close_code, 4000)
        self.setUp()
        self.assertEqual(self.received("text"), [])
        self.assertEqual(self.machine.close_code, 4000)

    def test_keepalive(self) -> None:
        self.received(WELCOME)
        due = self.machine._ping_at or 0
        self.assertTrue(75_000 <= due <= 100_000)
        self.machine.send_ack([1], 50_000)
        self.assertLessEqual(self.machine._ping_at or 0, 100_000, "what is sent says nothing of the other end")
        self.received(b"\x01\x8a", 60_000)
        self.assertTrue(125_000 <= (self.machine._ping_at or 0) <= 150_000, "since it sent something")
        self.machine.take_output()
        self.machine.tick(150_000)
        self.assertEqual(self.machine.take_output(), [b"\x01\x07"])
        self.received(b"\x01\x8a", 150_001)
        self.machine.ping(200_000)
        self.machine.tick(200_000 + PONG_TIMEOUT_MS)
        self.assertEqual(self.machine.close_code, 4030)

    def test_no_welcome(self) -> None:
        self.machine.tick(10_000)
        self.assertEqual(self.machine.close_code, 4003)

    def test_acks_are_split(self) -> None:
        limits = {"frame_bytes_max": 100, "window": 0, "registrations_max": 0, "topics_max": 0}
        self.received(encode_frame(frame("WELCOME", keepalive_seconds=9, limits=limits)))
        self.machine.send_ack(list(range(100)), 0)
        output = self.machine.take_output()
        self.assertTrue(all(len(message) <= 101 for message in output))
        ids = [number for message in output for number in decode_message(message, "device").frames[0]["ids"]]
        self.assertEqual(ids, list(range(100)))


class Reconnecting(unittest.TestCase):
    def test_next_moves(self) -> None:
        moves = {1000: "reconnect", 1006: "reconnect", 4012: "token", 4020: "raise", 4021: "stop", 4010: "stop", 4011: "renew", 4022: "renew", 4999: "reconnect"}
        self.assertEqual({code: next_after_close(code) for code in moves}, moves)
        self.assertEqual(next_after_error("new", 0), "give_up")
        self.assertEqual(next_after_error("new", 5), "retry")
        self.assertEqual(next_after_error("forbidden", 5), "give_up")
        self.assertEqual(next_after_error("unknown_registration", 0), "register")

    def test_moves_are_those_of_the_document(self) -> None:
        closes = re.findall(r"^\| (\d{4}) \| `(\w+)` \| (\w+) \|", DOCUMENT, re.MULTILINE)
        self.assertEqual({int(code): name for code, name, _ in closes}, CLOSE_NAMES)
        self.assertEqual({int(code): next_after_close(int(code)) for code, *_ in closes}, {int(code): move for code, _, move in closes})
        errors = dict(re.findall(r"^\| `(\w+)` \| (fix|give_up|register|retry) \|", DOCUMENT, re.MULTILINE))
        self.assertGreater(len(errors), 10)
        self.assertEqual({code: next_after_error(code, 0) for code in errors}, errors)

    def test_delays(self) -> None:
        class Greatest(Random):
            def uniform(self, a: float, b: float) -> float:
                return b

        backoff = Backoff(Greatest())
        self.assertEqual([backoff.delay() / 1000 for _ in range(8)], [1, 2, 4, 8, 16, 32, 60, 60])
        backoff.stable()
        self.assertEqual(backoff.delay(hint_ms=10**9), 601_000)
        self.assertEqual(backoff.delay(drawn_ms=-5), 0)
        self.assertEqual(backoff.delay(hint_ms=9, drawn_ms=-5), 9)
        self.assertEqual(backoff.delay(), 1_000, "neither a hint nor a GOAWAY counts")

    def test_nobody_there(self) -> None:
        class Greatest(Random):
            def uniform(self, a: float, b: float) -> float:
                return b

        backoff = Backoff(Greatest())
        self.assertEqual([backoff.delay(nobody_at_ms=at) for at in (500, 3_500, 30_499)], [3_000] * 3)
        self.assertEqual([backoff.delay(nobody_at_ms=at) for at in (30_500, 31_500)], [1_000, 2_000], "jitter from then on")
        self.assertEqual(backoff.delay(hint_ms=5_000, nobody_at_ms=33_500), 6_000)
        self.assertEqual(backoff.delay(nobody_at_ms=40_000), 3_000, "somebody was there in between")
        self.assertEqual(backoff.delay(), 4_000)

    def test_goaway_never_leaves_tls(self) -> None:
        self.assertEqual(goaway_url("wss://b/x", "ws://a"), "wss://b/x")
        for url in ("ws://b", "http://b", "", "ws://["):
            self.assertIsNone(goaway_url(url, "wss://a"))


class Limits(unittest.TestCase):
    def test_limits_are_those_of_the_document(self) -> None:
        told = {name: int(value.replace(",", "")) for name, value in re.findall(r"^\| ([A-Z_]+) \| ([\d,]+)", DOCUMENT, re.MULTILINE)}
        ours = {name.removesuffix("_MS"): value for name, value in vars(limits).items() if name.isupper() and name != "PROTOCOL_VERSION"}
        self.assertGreater(len(ours), 15)
        self.assertEqual({name: told.get(name) for name in ours}, ours)


class Requests(unittest.TestCase):
    def test_a_request_is_asked_until_answered(self) -> None:
        table = RequestTable(Random(1))
        request = table.add(Request("REGISTER", "a"))
        self.assertIs(table.add(Request("REGISTER", "a")), request)
        self.assertEqual(table.take(0), [(1, request)])
        self.assertEqual(table.take(9_999), [])
        self.assertEqual(table.take(10_000), [(2, request)])
        self.assertIsNone(table.drop(1))
        table.connection_lost()
        self.assertEqual(table.take(20_000), [(3, request)])
        self.assertIs(table.drop(3), request)
        table.retry(request, 20_000, 5_000)
        self.assertEqual(table.take(24_999), [])
        self.assertGreaterEqual(table.next_time_ms() or 0, 25_000)

    def test_what_is_being_ended_is_not_asked_for_anew(self) -> None:
        table = RequestTable(Random(1))
        table.add(Request("UNSUBSCRIBE", "a", "", "news"))
        self.assertTrue(table.ends(Request("SUBSCRIBE", "a", "", "news")))
        self.assertFalse(table.ends(Request("SUBSCRIBE", "a", "", "goals")))
        self.assertFalse(table.ends(Request("REGISTER", "a")))
        table.add(Request("UNREGISTER", "b"))
        [(number, _)] = table.take(0)
        self.assertTrue(table.ends(Request("REGISTER", "b")))
        self.assertTrue(table.ends(Request("SUBSCRIBE", "b", "", "goals")))
        self.assertTrue(table.ends(Request("SUBSCRIBE", "a", "", "news")), "also when it is under way")
        table.drop(number)
        self.assertFalse(table.ends(Request("SUBSCRIBE", "a", "", "news")))

    def test_no_more_than_eight_under_way(self) -> None:
        table = RequestTable(Random(1))
        for number in range(20):
            table.add(Request("REGISTER", str(number)))
        sent = [entry for step in range(100) for entry in table.take(step * 25.0)]
        self.assertEqual(len(sent), 8)


class Files(unittest.TestCase):
    def test_state_survives(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = StateFile(Path(folder) / "state.json")
            state = file.load()
            state.identity = Identity("dev_1", "t", "2030-01-01T00:00:00Z", "ws://x")
            state.cursor = {"incarnation": 2**64 - 1, "sequence": 2, "subscriptions": 3}
            state.registrations.append(Registration("a", topics=["t"]))
            Inbox(state).accept(NOTIFY, 0)
            file.save(state)
            self.assertEqual(file.load(), state)
            self.assertEqual(file.path.stat().st_mode & 0o777, 0o600)
            state.enrolled(Identity("dev_2", "u", "", "ws://x"))
            self.assertEqual((state.connection, state.cursor, state.registrations, len(state.seen)), (0, None, [], 1))
            file.lock()
            with self.assertRaises(BlockingIOError):
                StateFile(file.path).lock()
            file.unlock()
            file.path.write_text(json.dumps({"format": 2}))
            with self.assertRaises(ValueError):
                file.load()

    def test_answers_of_enrolment(self) -> None:
        answer = {"deviceId": "d", "token": "t", "expiresAt": "e", "transportUrl": "ws://x"}
        self.assertEqual(read_identity(json.dumps(answer).encode()), Identity("d", "t", "e", "ws://x"))
        told = {**answer, "expiresAt": "2030-01-01T00:00:04Z", "renewFrom": "2030-01-01T00:00:03.000Z"}
        identity = read_identity(json.dumps(told).encode(), "http://core", lambda a, b: b - (b - a) / 4)
        self.assertEqual((identity.core_url, identity.renew_at_ms), ("http://core", 1_893_456_003_750))
        body = b'{"error": {"code": "bad_enrolment_key", "message": "m"}}'
        self.assertEqual((refusal(401, None, body).code, refusal(401, None, body).retry_after_s), ("bad_enrolment_key", None))
        self.assertEqual(refusal(503, "3", b"").retry_after_s, 3)


if __name__ == "__main__":
    unittest.main()
