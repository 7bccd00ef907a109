"""`python3 -m borealis`: a device on the command line.

Exit code 0: a signal has stopped it; 1: the service refused it or a request; 2: it could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from typing import Any

from .client import Client, RequestError, hand_over_left
from .enrol import EnrolError, enrol
from .limits import HINT_MAX_MS
from .reconnect import ceiling_ms
from .state import StateFile


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="borealis", description="A device of the push service Borealis.")
    parser.add_argument("--url", default="", help="WebSocket of the transport, instead of the one from enrolment")
    parser.add_argument("--enrol-url", default="", help="base URL of the core; required until the device is enrolled")
    parser.add_argument("--enrolment-key", default="", help="key of the fleet; required until the device is enrolled")
    parser.add_argument("--name", default="", help="name of the device, for people")
    parser.add_argument("--application", action="append", default=[], help="application to register; repeatable")
    parser.add_argument("--user-token", default="", help="JWT that names the user of this device, from the application's backend")
    parser.add_argument("--topic", action="append", default=[], help="topic for the first application; repeatable")
    parser.add_argument("--state", required=True, help="file for identity, position and seen messages of the device")
    parser.add_argument("--json", action="store_true", help="print each event as a line of JSON")
    return parser.parse_args()


def printer(as_json: bool) -> Any:
    """A function that prints an event."""

    def show(event: dict[str, Any]) -> None:
        if as_json:
            line = json.dumps(event, ensure_ascii=False)
        elif event["event"] == "notification":
            line = f"[{event['id']}] {event['title']}: {event['message']} {json.dumps(event['data'], ensure_ascii=False)}"
        else:
            line = " ".join(f"{name}={value}" if name != "event" else f"{value}:" for name, value in event.items())
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    return show


def ensure_enrolled(options: argparse.Namespace, file: StateFile, show: Any) -> None:
    """Enrols if there is no identity or the service has ended it. Raises EnrolError if no repetition helps, ValueError."""
    state = file.load()
    if state.identity is not None and not state.identity.over:
        if options.enrol_url and not state.identity.core_url:
            state.identity.core_url = options.enrol_url
            file.save(state)
        return
    if not options.enrol_url or not options.enrolment_key:
        raise ValueError("the device is not enrolled: give --enrol-url and --enrolment-key")
    hand_over_left(file, state, show)
    attempt = 0
    while True:
        try:
            state.enrolled(enrol(options.enrol_url, options.enrolment_key, options.name))
            file.save(state)
            return
        except EnrolError as error:
            if error.retry_after_s is None:
                raise
            hint_ms = min(error.retry_after_s * 1000, HINT_MAX_MS)
            time.sleep((hint_ms + random.uniform(0, ceiling_ms(attempt))) / 1000)
            attempt += 1


async def run(options: argparse.Namespace, file: StateFile) -> int:
    client = Client(file, printer(options.json), url=options.url)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, client.stop)
    refused = False

    async def wishes() -> None:
        nonlocal refused
        try:
            for application in options.application:
                await client.register(application, options.user_token)
            for topic in options.topic:
                await client.subscribe(options.application[0], topic, options.user_token)
                client.on_event({"event": "subscribed", "topic": topic})
        except RequestError as error:
            refused = True
            sys.stderr.write(f"refused: {error.code} ({error.next})\n")

    asking = asyncio.ensure_future(wishes())
    await client.run()
    asking.cancel()
    return 0 if client.stopping and not refused else 1


def main() -> int:
    options = arguments()
    if options.topic and not options.application:
        sys.stderr.write("--topic needs an --application\n")
        return 2
    file = StateFile(options.state)
    try:
        file.lock()
        ensure_enrolled(options, file, printer(options.json))
        return asyncio.run(run(options, file))
    except (EnrolError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    finally:
        file.unlock()


if __name__ == "__main__":
    sys.exit(main())
