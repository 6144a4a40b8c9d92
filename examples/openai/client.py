"""OpenAI's own client, over a connection that ends inside the enclave.

python client.py policy.toml https://127.0.0.1:8443
"""

from __future__ import annotations

import sys

from kluis.client import OpenAI
from kluis.errors import KluisError

TEXTS = ["The cat sits outside", "A feline is in the garden", "Interest rates rise"]


def main(policy: str, url: str) -> None:
    """Compare three texts, then ask a question and print the answer as it comes."""
    with OpenAI(base_url=f"{url}/v1", policy=policy) as client:
        first, *others = [
            one.embedding for one in client.embeddings.create(model="embeddings", input=TEXTS).data
        ]
        print(f"attested: {client.attestation.summary}, level {client.attestation.claims.level}")
        for text, other in zip(TEXTS[1:], others, strict=True):
            print(f"{sum(a * b for a, b in zip(first, other, strict=True)):.2f}  {text}")
        stream = client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": 'The "assert" statement'}],
            max_tokens=80,
            temperature=0.7,
            seed=1,
            stream=True,
        )
        for part in stream:
            print(part.choices[0].delta.content or "", end="", flush=True)
        print()


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except KluisError as error:
        sys.exit(f"nothing was sent: {error}")
