#!/usr/bin/env python3
"""Prints a user token: the signed statement of an app server that a user of the project uses a device.
docs/send/users.md.

    pip install 'pyjwt[crypto]' pyyaml
    python3 user_token.py settings.yaml <applicationId> <deviceId> <user>
"""

import sys
import time

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def user_token(settings: dict[str, str], application: str, device: str, user: str) -> str:
    key = load_pem_private_key(settings["private_key"].encode(), password=None)
    algorithm = "ES256" if isinstance(key, EllipticCurvePrivateKey) else "RS256"
    claims = {"aud": application, "sub": user, "device": device, "exp": int(time.time()) + 600}
    # The type tells a user token from the client assertion, which the same key signs.
    return jwt.encode(claims, key, algorithm, headers={"kid": settings["key_id"], "typ": "borealis-user+jwt"})


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: user_token.py <settings file> <applicationId> <deviceId> <user>")
    with open(sys.argv[1], encoding="utf-8") as text:
        print(user_token(yaml.safe_load(text)["push_notification_system"], *sys.argv[2:]))
