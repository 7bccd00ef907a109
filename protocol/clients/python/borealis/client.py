"""The asyncio client: connects, stores, acknowledges, hands over, reconnects.

It saves the state on the thread of the event loop, so that no ACK is sent before the state is on the disk.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Any

from . import __version__
from .connection import DEAD, Connection
from .enrol import EnrolError, renew
from .frames import Frame, frame
from .inbox import Inbox
from .limits import HINT_MAX_MS, INTEGER_MAX, PROTOCOL_VERSION
from .position import note_caught_up, note_gap, note_sequence
from .reconnect import CLOSE_NAMES, Backoff, ceiling_ms, goaway_url, next_after_close, next_after_error
from .requests import Request, RequestTable
from .state import DeviceState, Identity, Registration, StateFile, token_is_good, user_of
from .websocket import CannotOpen, Socket, SocketClosed, open_websocket

Event = dict[str, Any]
BYE_TIMEOUT_S = 2.0
RENEW_AGAIN_MS = 60_000
"""Least time between two renewals: a clock that is wrong must not make a loop of them."""
RENEW_LOOK_MS = 6 * 3_600_000
"""A device that was suspended looks at the time again after this."""


class RequestError(Exception):
    """The service refused a request. `code` is a code of PROTOCOL.md, "ERROR"; `next` is fix, give_up or register."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
        self.next = next_after_error(code, 0)


@dataclass
class Ended:
    """The end of a connection or of an attempt. Code 1006: no WebSocket opened, or it broke."""

    code: int
    detail: str = ""
    hint_ms: float = 0
    stale_above: int = 0
    reconnect_at_ms: float | None = None
    reconnect_url: str = ""
    opened: bool = True
    welcomed: bool = False
    with_ticket: bool = False


def monotonic_ms() -> float:
    """The clock of all timers, in milliseconds."""
    return time.monotonic() * 1000


class Client:
    """A device.

    It calls `on_event` for each event, on the thread of the event loop. A notification is done when `on_event` returns.
    """

    def __init__(
        self,
        file: StateFile,
        on_event: Callable[[Event], None],
        *,
        url: str = "",
        open_socket: Callable[[str], Awaitable[Socket]] = open_websocket,
        random: Random | None = None,
        renew_token: Callable[[Identity], Identity] = renew,
    ) -> None:
        """`url` replaces the one from enrolment. Raises ValueError if the state has no identity.

        `renew_token` runs on a thread of its own.
        """
        self.file = file
        self.state = file.load()
        if self.state.identity is None:
            raise ValueError("the device is not enrolled")
        self.url = url or self.state.identity.transport_url
        self.on_event = on_event
        self.open_socket = open_socket
        self.random = random or SystemRandom()
        self.renew_token = renew_token
        self._token_unshown = False
        self._log_was_reset = False
        self._renewal: asyncio.Future | None = None
        self._greeted = asyncio.Event()
        self.backoff = Backoff(self.random)
        self.requests = RequestTable(self.random)
        self.inbox = Inbox(self.state)
        self._ready = False
        self._wake = asyncio.Event()
        self._turns: defaultdict[tuple[str, str | None], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stopping = False
        self._stale_in_a_row = 0
        self._resyncing: set[tuple[str, str, str | None, str]] = set()
        self._heard_subscriptions = 0

    # ---- for applications ---------------------------------------------------------------------

    async def register(self, application: str, user_token: str = "") -> Registration:
        """Registers an application, and waits for the answer across connections. Raises RequestError."""
        async with self._turn(application, user_token):
            entry = self.state.registration_of(application, user_token)
            if entry is None:
                entry = Registration(application, user_token)
                self.state.registrations.append(entry)
                self._save()
            elif entry.user_token != user_token:
                entry.user_token = user_token
                self._save()
            await self._ask(Request("REGISTER", application, user_token))
            return entry

    async def unregister(self, application: str, user_token: str = "") -> None:
        """Ends a registration and its topics. Raises RequestError, KeyError if the device does not have it."""
        async with self._turn(application, user_token):
            entry = self._entry(application, user_token)
            await self._ask(Request("UNREGISTER", application, user_token))
            self.state.registrations.remove(entry)
            self._save()

    async def subscribe(self, application: str, topic: str, user_token: str = "") -> None:
        """Joins a topic of the application's project. Raises RequestError, KeyError if it is not registered."""
        async with self._turn(application, user_token):
            entry = self._entry(application, user_token)
            if topic not in entry.topics:
                entry.topics.append(topic)
                self._save()
            try:
                await self._ask(Request("SUBSCRIBE", application, user_token, topic))
            except RequestError:
                entry.topics.remove(topic)
                self._save()
                raise

    async def unsubscribe(self, application: str, topic: str, user_token: str = "") -> None:
        """Leaves a topic. Raises RequestError, KeyError if the application is not registered."""
        async with self._turn(application, user_token):
            entry = self._entry(application, user_token)
            await self._ask(Request("UNSUBSCRIBE", application, user_token, topic))
            if topic in entry.topics:
                entry.topics.remove(topic)
                self._save()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """Ends the session with BYE; `run` returns soon after."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> Ended:
        """Stays connected until `stop`, or until a close code says "stop". Returns the last end."""
        self._recover()
        self._renewal = asyncio.ensure_future(self._renew_in_time())
        try:
            return await self._stay_connected()
        finally:
            await _cancel(self._renewal)

    async def _stay_connected(self) -> Ended:
        other_url = ""
        while True:
            ended = await self._connect(other_url or self.url)
            if not ended.welcomed:
                other_url = ""
            following = "stop" if self._stopping else next_after_close(ended.code)
            if following == "token" and not ended.with_ticket:
                following = "stop"
            if following == "renew" and not (self.state.identity and self.state.identity.core_url):
                following = "stop"
            if following == "raise" and self._above(ended) > INTEGER_MAX - 1:
                following = "stop"
            drawn = None
            if ended.reconnect_at_ms is not None:
                drawn = ended.reconnect_at_ms - monotonic_ms()
                other_url = goaway_url(ended.reconnect_url, self.url) or other_url
            nobody_at_ms = None if ended.opened else monotonic_ms()
            delay = self.backoff.delay(ended.hint_ms, drawn, nobody_at_ms=nobody_at_ms)
            self._after_close(following, ended)
            self._emit(
                event="closed",
                code=ended.code,
                name=CLOSE_NAMES.get(ended.code, ""),
                detail=ended.detail,
                next=following,
                reconnectInMs=None if following in ("stop", "renew") else round(delay),
            )
            if following == "stop":
                return ended
            if following == "renew":
                if not await self._renew_now():
                    return ended
                continue
            await self._sleep(delay)
            if self._stopping:
                return ended

    # ---- the token ----------------------------------------------------------------------------

    async def _renew_in_time(self) -> None:
        """Renews at the drawn time, again and again. Ends where the token has none, or a renewal was refused."""
        # Only WELCOME tells how far the clock of the device is from the server's.
        await self._greeted.wait()
        while True:
            identity = self.state.identity
            if identity is None or not identity.core_url or not identity.renew_at_ms:
                return
            wait_ms = identity.renew_at_ms - (time.time() * 1000 + self.state.clock_offset_ms)
            if wait_ms > 0:
                await asyncio.sleep(min(wait_ms, RENEW_LOOK_MS) / 1000)
            elif not await self._renew(identity, asyncio.sleep):
                return
            else:
                await asyncio.sleep(RENEW_AGAIN_MS / 1000)

    async def _renew_now(self) -> bool:
        """The server takes no connection before a renewal. False if the service refuses, which ends the identity."""
        await _cancel(self._renewal)
        identity = self.state.identity

        async def sleep(seconds: float) -> None:
            await self._sleep(seconds * 1000)

        # A fleet whose tokens ended while the service was away must not come all at once.
        await sleep(self.random.uniform(0, ceiling_ms(0)) / 1000)
        if identity is None or self._stopping:
            return False
        if await self._renew(identity, sleep):
            self._renewal = asyncio.ensure_future(self._renew_in_time())
            return True
        if not self._stopping:
            identity.over = True
            self._save()
        return False

    async def _renew(self, identity: Identity, sleep: Callable[[float], Awaitable[None]]) -> bool:
        """Renews the token, however many attempts that takes. False if the service refuses, or after `stop`."""
        attempt = 0
        while not self._stopping:
            try:
                renewed = await asyncio.to_thread(self.renew_token, identity)
            except EnrolError as error:
                if error.retry_after_s is None:
                    self._emit(event="renewal_refused", code=error.code)
                    return False
                self._emit(event="renewal_failed", code=error.code)
                hint_ms = min(error.retry_after_s * 1000, HINT_MAX_MS)
                await sleep((hint_ms + self.random.uniform(0, ceiling_ms(attempt))) / 1000)
                attempt += 1
                continue
            self.state.identity = renewed
            # A ticket descends from the older token, and ends with it.
            self.state.ticket = ""
            self._save()
            self._token_unshown = True
            self._emit(event="renewed", expiresAt=renewed.expires_at)
            self._wake.set()
            return True
        return False

    # ---- a connection -------------------------------------------------------------------------

    async def _connect(self, url: str) -> Ended:
        try:
            socket = await self.open_socket(url)
        except CannotOpen as error:
            return Ended(DEAD, str(error), error.retry_after_ms, opened=False)
        machine = Connection(self.random)
        code, detail = DEAD, ""
        try:
            hello = self._hello()
            machine.send(hello, monotonic_ms())
            code, detail = await self._talk(socket, machine)
        except SocketClosed as error:
            code = error.code
        finally:
            self.requests.connection_lost()
            if machine.stable:
                self.backoff.stable()
            await self._close(socket, code if machine.close_code is not None else 1000, detail)
        return Ended(
            code,
            detail,
            machine.hint_ms,
            machine.stale_above,
            machine.reconnect_at_ms,
            machine.reconnect_url,
            welcomed=machine.welcomed,
            with_ticket=hello["credential"][0] == "ticket",
        )

    async def _talk(self, socket: Socket, machine: Connection) -> tuple[int, str]:
        """Runs until the device ends the connection: code and reason. Raises SocketClosed if the server ends it."""
        receiving = asyncio.ensure_future(socket.receive())
        try:
            while True:
                self._send_requests(machine)
                await self._write(socket, machine)
                if machine.close_code is not None:
                    return machine.close_code, machine.close_detail
                if self._stopping:
                    return await self._leave(socket, machine, receiving)
                if self._token_unshown and machine.greeted:
                    await self._leave(socket, machine, receiving)
                    return 1000, "left to show the renewed token"
                if machine.reconnect_at_ms is not None and monotonic_ms() >= machine.reconnect_at_ms:
                    return 1001, "left after GOAWAY"
                await self._wait(receiving, self._next_time(machine))
                if receiving.done():
                    data = receiving.result()
                    receiving = asyncio.ensure_future(socket.receive())
                    self._received(machine, data)
                machine.tick(monotonic_ms())
                if machine.stable:
                    self.backoff.stable()
        finally:
            await _cancel(receiving)

    async def _leave(self, socket: Socket, machine: Connection, receiving: asyncio.Future) -> tuple[int, str]:
        if machine.greeted:
            machine.send(frame("BYE"), monotonic_ms())
            await self._write(socket, machine)
            await asyncio.wait({receiving}, timeout=BYE_TIMEOUT_S)
        return 1000, "stopped"

    async def _write(self, socket: Socket, machine: Connection) -> None:
        """Writes the output. Ignores a closed socket: `receive` reports it, after the frames that came before."""
        for message in machine.take_output():
            try:
                await socket.send(message)
            except SocketClosed:
                return

    def _next_time(self, machine: Connection) -> float | None:
        times = [machine.next_time_ms(), machine.reconnect_at_ms]
        if machine.greeted:
            times.append(self.requests.next_time_ms())
        return min((time for time in times if time is not None), default=None)

    async def _wait(self, receiving: asyncio.Future, until_ms: float | None) -> None:
        timeout = None if until_ms is None else max(0.0, until_ms - monotonic_ms()) / 1000
        waking = asyncio.ensure_future(self._wake.wait())
        await asyncio.wait({receiving, waking}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(waking)
        self._wake.clear()

    async def _close(self, socket: Socket, code: int, reason: str) -> None:
        try:
            await asyncio.wait_for(socket.close(1000 if code in (DEAD, 1001) else code, reason), BYE_TIMEOUT_S + 1)
        except (SocketClosed, OSError, asyncio.TimeoutError):
            pass

    async def _sleep(self, delay_ms: float) -> None:
        until = monotonic_ms() + delay_ms
        while not self._stopping and monotonic_ms() < until:
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.001, (until - monotonic_ms()) / 1000))
            except asyncio.TimeoutError:
                pass
            self._wake.clear()

    # ---- frames -------------------------------------------------------------------------------

    def _hello(self) -> Frame:
        """HELLO, with a connection number that was raised and made durable."""
        state = self.state
        assert state.identity is not None
        if state.connection >= INTEGER_MAX:
            raise ValueError("no connection number is left: enrol the device anew")
        state.connection += 1
        self._save()
        self._token_unshown = False
        with_ticket = state.ticket and time.time() * 1000 < state.ticket_until_ms
        return frame(
            "HELLO",
            version=PROTOCOL_VERSION,
            credential=("ticket", bytes.fromhex(state.ticket)) if with_ticket else ("token", state.identity.token),
            connection=state.connection,
            client={"name": "borealis-python", "version": __version__, "platform": sys.platform},
            cursor=state.cursor,
            gap=state.gap,
        )

    def _received(self, machine: Connection, data: bytes | str) -> None:
        """Acts on each frame of a message, saves the state once, then acknowledges, hands over and marks done."""
        acknowledge: list[int] = []
        events: list[Event] = []
        changed = False
        for value in machine.receive(data, monotonic_ms()):
            changed = changed or value.type not in ("PONG", "GOAWAY")
            self._act(machine, value, acknowledge, events)
        if not machine.welcomed:
            return
        now_ms = machine.server_now_ms(monotonic_ms())
        self.inbox.forget(now_ms)
        if changed:
            self._save()
        if acknowledge and machine.greeted:
            machine.send_ack(acknowledge, monotonic_ms())
        last = [event for event in events if event["event"] in ("ready", "caught_up")]
        shown = self.inbox.hand_over(now_ms, asking=self.requests.asking)
        for event in [*(event for event in events if event not in last), *shown, *last]:
            self.on_event(event)
        if not self.inbox.all_held:
            self.inbox.done()
            self._save()

    def _act(self, machine: Connection, value: Frame, acknowledge: list[int], events: list[Event]) -> None:
        if value.type in ("NOTIFY", "NOTIFY_GROUP"):
            self.inbox.accept(value, machine.server_now_ms(monotonic_ms()))
            if value.type == "NOTIFY":
                acknowledge.append(value["id"])
            else:
                if not self._log_was_reset:
                    note_sequence(self.state, value["sequence"])
        elif value.type == "WELCOME":
            self._welcome(value)
            self._greeted.set()
            events.append({"event": "connected", "connection": self.state.connection})
        elif value.type == "CAUGHT_UP":
            note_caught_up(self.state, value["cursor"], self._log_was_reset)
            self._log_was_reset = self._log_was_reset and value["cursor"] is None
            identity = self.state.identity
            events.append({"event": "caught_up" if self._ready else "ready", "deviceId": identity and identity.device_id})
            self._ready = True
        elif value.type == "GAP":
            self._log_was_reset = self._log_was_reset or value["reason"] == "log_reset"
            told = note_gap(self.state, value)
            if told:
                events.append({"event": "gap", **told})
        elif value.type in ("REGISTERED", "DONE") or value.type == "ERROR" and value["request"]:
            self._answered(value, events)
        elif value.type == "GOAWAY":
            events.append({"event": "goaway", "reason": value["reason"]})

    def _welcome(self, value: Frame) -> None:
        state, wall_ms = self.state, int(time.time() * 1000)
        self._log_was_reset = False
        # With a token renewed since HELLO, this ticket is of the older token.
        state.ticket = "" if self._token_unshown else value["ticket"].hex()
        state.ticket_until_ms = wall_ms + value["ticket_seconds"] * 1000
        state.clock_offset_ms = value["server_time_ms"] - wall_ms
        self._ready = False
        self._stale_in_a_row = 0
        self._heard_subscriptions = value["subscriptions"]
        self._resyncing.clear()
        if value["subscriptions"] != state.subscriptions:
            for entry in state.registrations:
                request = Request("REGISTER", entry.application, entry.user_token)
                if self.requests.ends(request):
                    continue
                self._resyncing.add(request.key)
                if token_is_good(entry.user_token, value["server_time_ms"] / 1000):
                    self.requests.add(request)
        self._resynced()

    # ---- requests -----------------------------------------------------------------------------

    async def _ask(self, request: Request) -> None:
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        request.finish.append(lambda code: None if answer.done() else answer.set_result(code))
        self.requests.add(request)
        self._wake.set()
        code = await answer
        if code is not None:
            raise RequestError(code)

    def _turn(self, application: str, user_token: str) -> asyncio.Lock:
        """A lock for the requests of one registration: the service carries out requests that are under way together in
        any order. A cancelled call gives up its turn; the service may still carry out its request."""
        return self._turns[application, user_of(user_token)]

    def _resync(self, request: Request) -> None:
        if self.requests.ends(request):
            return
        self._resyncing.add(request.key)
        self.requests.add(request)

    def _resynced(self) -> None:
        """Stores the version of the subscriptions once all repeated requests are answered, and not before."""
        if not self._resyncing:
            self.state.subscriptions = self._heard_subscriptions

    def _send_requests(self, machine: Connection) -> None:
        if not machine.greeted or self._stopping:
            return
        for number, request in self.requests.take(monotonic_ms()):
            entry = self.state.registration_of(request.application, request.user_token)
            if request.type == "REGISTER":
                value = frame(
                    "REGISTER", request=number, application=request.application, user_token=request.user_token
                )
            elif entry is None or not entry.number:
                self.requests.drop(number)
                self._finish(request, "unknown_registration")
                continue
            else:
                topic = {"topic": request.topic} if request.topic else {}
                value = frame(request.type, request=number, registration=entry.number, **topic)
            machine.send(value, monotonic_ms())

    def _answered(self, value: Frame, events: list[Event]) -> None:
        request = self.requests.drop(value["request"])
        if request is None:
            return
        code = None
        if value.type == "ERROR":
            code = value["code"]
            if code == "unknown_registration" and request.type == "SUBSCRIBE" and not request.renewed:
                request.renewed = True
                self.requests.add(Request("REGISTER", request.application, request.user_token))
                self.requests.add(request)
                return
            if next_after_error(code, value["retry_after_ms"]) == "retry":
                self.requests.retry(request, monotonic_ms(), value["retry_after_ms"])
                return
            events.append({"event": "request_failed", "request": request.type, "code": code, "detail": value["detail"]})
        else:
            self._heard_subscriptions = max(self._heard_subscriptions, value["subscriptions"])
        if value.type == "REGISTERED":
            self._registered(request, value, events)
        self._finish(request, code)

    def _finish(self, request: Request, code: str | None) -> None:
        self._resyncing.discard(request.key)
        self._resynced()
        if code == "unknown_registration" and request.type in ("UNREGISTER", "UNSUBSCRIBE"):
            code = None
        for finish in request.finish:
            finish(code)

    def _registered(self, request: Request, value: Frame, events: list[Event]) -> None:
        entry = self.state.registration_of(request.application, request.user_token)
        if entry is None:
            return
        moved = entry.number not in (0, value["registration"])
        entry.number, entry.registration_id = value["registration"], value["registration_id"]
        entry.project = value["project"]
        if moved or request.key in self._resyncing:
            for topic in entry.topics:
                self._resync(Request("SUBSCRIBE", entry.application, entry.user_token, topic))
        events.append(
            {
                "event": "registered",
                "application": entry.application,
                "registration": entry.number,
                "registrationId": entry.registration_id,
            }
        )

    # ---- helpers ------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Hands over the notifications that were stored and not done when the process ended."""
        hand_over_left(self.file, self.state, self.on_event, guessed=True)

    def _after_close(self, following: str, ended: Ended) -> None:
        if following == "token":
            self.state.ticket = ""
        elif following == "stop" and CLOSE_NAMES.get(ended.code) == "bad_token" and self.state.identity:
            self.state.identity.over = True
        elif following == "raise":
            self.state.connection = self._above(ended)
            self._stale_in_a_row += 1
        else:
            return
        self._save()

    def _above(self, ended: Ended) -> int:
        """The number above which the device continues after `stale_connection`."""
        if ended.stale_above >= self.state.connection:
            return ended.stale_above
        return self.state.connection + 16 ** min(self._stale_in_a_row + 1, 13) - 1

    def _entry(self, application: str, user_token: str) -> Registration:
        entry = self.state.registration_of(application, user_token)
        if entry is None:
            raise KeyError(f"{application} is not registered")
        return entry

    def _emit(self, **event: Any) -> None:
        self.on_event(event)

    def _save(self) -> None:
        self.file.save(self.state)


def hand_over_left(
    file: StateFile, state: DeviceState, on_event: Callable[[Event], None], guessed: bool = False
) -> None:
    """Hands over what an earlier run stored and did not mark done; also before a new identity replaces the old one.

    `guessed`: a WELCOME will tell the time, so what seems to have expired waits for it.
    """
    if not state.pending:
        return
    inbox = Inbox(state)
    for event in inbox.hand_over(int(time.time() * 1000) + state.clock_offset_ms, guessed=guessed):
        on_event(event)
    inbox.done()
    file.save(state)


async def _cancel(task: asyncio.Future | None) -> None:
    """Cancels a task and discards its result or exception."""
    if task is None:
        return
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
