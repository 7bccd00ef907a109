"""
Changes generated requests so that they keep the rules that no JSON Schema states. Each of these rules is a named check of
the service and stands in the description of its field: the longest `ttl`, the latest `notBefore`, an `until` in the
future, the size of `data`, and values that exist in one running service only (registrationIds, keys). So
`positive_data_acceptance` can demand success of each request that fits its schema.

Negative requests, which break the schema on purpose, stay as they are.
"""

import json
import os
from datetime import datetime, timedelta, timezone

import schemathesis

KNOWN = json.loads(os.environ["BOREALIS_TEST_KNOWN"])

# One day is within the limits of ttl (28 days) and of notBefore (30 days).
TTL = "1d"


def mend_message(message):
    if not isinstance(message, dict):
        return
    if message.get("type") == "device":
        message["target"] = KNOWN["registrationId"]
    elif message.get("type") == "devices":
        message["target"] = [KNOWN["registrationId"]]
    elif message.get("type") == "application":
        message["target"] = KNOWN["application"]
    message["ttl"] = TTL
    if "notBefore" in message:
        message["notBefore"] = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    notification = message.get("notification")
    if isinstance(notification, dict) and "data" in notification:
        notification["data"] = {"n": 1}


@schemathesis.hook
def before_call(context, case, kwargs):
    generation = case.meta.generation if case.meta else None
    if generation is None or not generation.mode.is_positive:
        return
    body = case.body
    if not isinstance(body, dict):
        return
    operation = case.operation.definition.raw.get("operationId")
    if operation == "sendMessage":
        mend_message(body)
    elif operation == "sendBatch":
        for message in body.get("messages", []):
            mend_message(message)
    elif operation == "addPublicKey":
        body["publicKey"] = KNOWN["publicKey"]
    elif operation == "addEnrolmentKey" and "until" in body:
        body["until"] = (datetime.now(timezone.utc) + timedelta(days=1)).date().isoformat()
    elif operation == "setWebhook":
        body["url"] = "https://push.example.com/hook"
    elif operation == "enrolDevice":
        body["enrolmentKey"] = KNOWN["enrolmentKey"]
