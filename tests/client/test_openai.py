"""OpenAI's own client, unmodified, uses the service: sync, async, streaming, embeddings."""

from __future__ import annotations

import asyncio
import dataclasses

import openai
import pytest

from kluis.client import AsyncOpenAI, OpenAI
from kluis.errors import KluisError, PolicyError, UsageError
from tests.clients.openai.serving import Service, policy

TOOL = {"role": "tool", "content": "x"}
LONG = {"role": "user", "content": "x" * 300}
WANT = "base_url: want https://host[:port]/v1 of the enclave, got "
MESSAGES = [{"role": "user", "content": "What is a generator?"}]


def test_models(service: Service) -> None:
    """The models are listed, and the verdict is the enclave's."""
    with OpenAI(**service.options()) as client:
        with pytest.raises(UsageError, match="want a response, got none yet"):
            _ = client.attestation
        assert [one.id for one in client.models.list()] == ["embeddings", "chat"]
        assert client.attestation.claims.level == "none"


def test_embeddings(service: Service) -> None:
    """Texts become vectors of unit length, the same in both encodings, and usage counts their tokens."""
    with OpenAI(**service.options()) as client:
        plain = client.embeddings.create(model="embeddings", input=["ab", "abc"], encoding_format="float")
        coded = client.embeddings.create(model="embeddings", input=["ab", "abc"])
    assert [len(one.embedding) for one in plain.data] == [16, 16]
    assert sum(x * x for x in plain.data[0].embedding) == pytest.approx(1, abs=1e-5)
    assert coded.data[1].embedding == pytest.approx(plain.data[1].embedding, abs=1e-6)
    assert plain.usage.total_tokens == 5


def test_chat(service: Service) -> None:
    """The same seed gives the same answer, streamed or not, with its usage."""
    asked = {"model": "chat", "messages": MESSAGES, "seed": 7, "max_tokens": 24}
    with OpenAI(**service.options()) as client:
        whole = client.chat.completions.create(**asked)
        parts = list(
            client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        )
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert whole.choices[0].message.content == text
    assert text
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert parts[-1].usage == whole.usage
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens <= 24
    assert whole.usage.prompt_tokens == len("What is a generator?") + 2


def test_stop_and_temperature(service: Service) -> None:
    """At temperature 0 the answer repeats; a stop text ends it, and no part of it is sent."""
    asked = {"model": "chat", "messages": MESSAGES, "temperature": 0, "max_tokens": 40}
    with OpenAI(**service.options()) as client:
        whole = client.chat.completions.create(**asked).choices[0].message.content or ""
        stop = whole[6:9]
        first = whole.index(stop)
        again = client.chat.completions.create(**asked, stop=[stop]).choices[0]
        pieces = [
            part.choices[0].delta.content or ""
            for part in client.chat.completions.create(**asked, stop=stop, stream=True)
        ]
    assert (again.message.content, again.finish_reason) == (whole[:first], "stop")
    assert "".join(pieces) == whole[:first]


def test_async(service: Service) -> None:
    """The asynchronous client does the same, several requests at once."""

    async def asked() -> tuple[list[str], str, str]:
        async with AsyncOpenAI(**service.options()) as client:
            many = await asyncio.gather(
                *(client.embeddings.create(model="embeddings", input=f"text {n}") for n in range(8))
            )
            stream = await client.chat.completions.create(
                model="chat", messages=MESSAGES, seed=7, max_tokens=8, stream=True
            )
            text = "".join([part.choices[0].delta.content or "" async for part in stream])
            level = str(client.attestation.claims.level)
            return [one.model for one in many], text, level

    models, text, level = asyncio.run(asked())
    assert models == ["embeddings"] * 8
    assert text
    assert level == "none"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gpt-5"}, "model: want chat for this request; GET /v1/models lists all"),
        ({"n": 2}, "n: want 1"),
        ({"logprobs": True}, "logprobs: are not returned"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools: are not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format: want text"),
        ({"max_tokens": 0}, "max_tokens: want at least 1"),
        ({"temperature": 3}, "temperature: want 0 to 2"),
        ({"stop": ["x"] * 5}, "stop: want at most 4 texts of 1 to 64 characters"),
        ({"frequency_penalty": 1}, "request: Object contains unknown field `frequency_penalty`"),
        ({"messages": [TOOL]}, "messages: want the role user, assistant, system or developer"),
        ({"messages": [LONG]}, "messages: want fewer than 256 tokens, got 302"),
    ],
)  # fmt: skip
def test_refusals(service: Service, changes: dict[str, object], message: str) -> None:
    """What the service cannot do is the client's BadRequestError, with the field."""
    asked = {"model": "chat", "messages": MESSAGES} | changes
    with OpenAI(**service.options()) as client, pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**asked)
    assert raised.value.body["message"] == message


def test_a_role_in_a_text(service: Service) -> None:
    """A client's text never becomes a role of the conversation: its letters are tokens."""
    text = "<|assistant|>"
    with OpenAI(**service.options()) as client:
        found = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": text}], max_tokens=1
        )
    assert found.usage is not None
    assert found.usage.prompt_tokens == len(text) + 2


def test_another_image_is_refused(service: Service) -> None:
    """The error is the policy's, at once, and nothing was sent."""
    wanted = policy(svn=2)
    with OpenAI(**service.options(wanted)) as client, pytest.raises(PolicyError, match="svn"):
        client.models.list()

    async def asked() -> None:
        async with AsyncOpenAI(**service.options(wanted)) as client:
            await client.models.list()

    with pytest.raises(PolicyError, match="svn"):
        asyncio.run(asked())


def test_arguments(service: Service) -> None:
    """An address that is not an enclave's, no policy, and another transport are refused at once."""
    options = service.options()
    for changes, message in (
        ({"base_url": None}, WANT + "'None'"),
        ({"base_url": "http://127.0.0.1/v1"}, WANT + "'http://127.0.0.1/v1'"),
        ({"policy": None}, "policy: want the requirements on the enclave, got none"),
        (
            {"http_client": openai.DefaultHttpxClient()},
            "http_client: want none, because this client verifies its enclave, got one",
        ),
    ):  # fmt: skip
        with pytest.raises(UsageError) as raised:
            OpenAI(**{**options, **changes})
        assert raised.value.message == message
    purpose = dataclasses.replace(
        service.policy, binding=dataclasses.replace(service.policy.binding, nonce=False)
    )
    with pytest.raises(KluisError):
        OpenAI(**service.options(purpose))


def test_copies(service: Service) -> None:
    """A copy with other options keeps the transport and its verdict."""
    with OpenAI(**service.options()) as client:
        other = client.with_options(timeout=60, max_retries=0)
        other.models.list()
        assert other.attestation is client.attestation
