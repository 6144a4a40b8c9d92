"""OpenAI's own client, over a connection that ends inside the enclave.

python project_name/client.py https://127.0.0.1:8443 --key project_name.jwk

With --key, the model's owner unlocks it first. Other clients do without.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import httpx
from openai import APIConnectionError

from kluis.client import OpenAI, unlock_model
from kluis.errors import KluisError
from kluis.host.models import read_key

POLICY = Path(__file__).with_name("policy.toml")
TEXTS = ["The cat sits outside", "A feline is in the garden", "Interest rates rise"]


def arguments() -> argparse.Namespace:
    """What the command line states."""
    parser = argparse.ArgumentParser(description="Use the models in the enclave.")
    parser.add_argument("url")
    parser.add_argument("--key", type=Path, help="the model's key, if you are its owner")
    parser.add_argument("--policy", type=Path, default=POLICY)
    return parser.parse_args()


def main(options: argparse.Namespace) -> None:
    """Compare three texts, then ask a question and print the answer as it comes."""
    if options.key is not None:
        unlocked = unlock_model(options.url, read_key(options.key), policy=options.policy)
        print(f"unlocked: model {unlocked.model_id}")
    with OpenAI(base_url=f"{options.url}/v1", policy=options.policy) as client:
        answer = client.embeddings.create(model="embeddings", input=TEXTS)
        print(f"attested: {client.attestation.summary}, level {client.attestation.claims.level}")
        first, *others = [one.embedding for one in answer.data]
        for text, other in zip(TEXTS[1:], others, strict=True):
            print(f"{sum(a * b for a, b in zip(first, other, strict=True)):.2f}  {text}")
        question = {"role": "user", "content": 'The "assert" statement'}
        stream = client.chat.completions.create(
            model="chat", messages=[question], max_tokens=80, temperature=0.7, seed=1, stream=True
        )
        for part in stream:
            print(part.choices[0].delta.content or "", end="", flush=True)
        print()


if __name__ == "__main__":
    given = arguments()
    try:
        main(given)
    except KluisError as error:
        sys.exit("\n".join([f"nothing was sent: {error}", *getattr(error, "__notes__", [])]))
    except (APIConnectionError, httpx.ConnectError) as error:
        reason = error.__cause__ if isinstance(error, APIConnectionError) else error
        if not isinstance(reason, httpx.ConnectError):
            raise
        sys.exit(f"{given.url} cannot be reached: {reason}")
