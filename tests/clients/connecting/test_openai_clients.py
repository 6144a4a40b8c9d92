"""OpenAI's own clients and LangChain's, unmodified, use private inference through the proxy."""

from __future__ import annotations

import asyncio
import math

import pytest

from tests.connect.running import SECONDS, Running

openai = pytest.importorskip("openai", reason="openai is not installed: scripts/setup.sh test")
CHAT, EMBEDDING = "chat", "embedding"


def options(proxy: Running) -> dict[str, object]:
    return {"base_url": f"{proxy.url}/v1", "api_key": "none", "timeout": SECONDS, "max_retries": 0}


def names(proxy: Running) -> dict[str, str]:
    """The models, by what they do: the service lists them."""
    with openai.OpenAI(**options(proxy)) as client:
        found = [model.id for model in client.models.list()]
    embedding = next(name for name in found if "embed" in name or "minilm" in name.lower())
    return {EMBEDDING: embedding, CHAT: next(name for name in found if name != embedding)}


def test_embeddings(models: Running) -> None:
    """Vectors of length one; the same text has the same vector."""
    with openai.OpenAI(**options(models)) as client:
        answer = client.embeddings.create(model=names(models)[EMBEDDING], input=["a ship", "a ship", "tea"])
    one, two, three = (each.embedding for each in answer.data)
    assert one == two
    assert one != three
    assert math.isclose(math.hypot(*one), 1.0, abs_tol=1e-3)


def test_chat(models: Running) -> None:
    """An answer at once, and the same one in pieces as they are decoded."""
    asked = {
        "model": names(models)[CHAT],
        "messages": [{"role": "user", "content": "once"}],
        "max_tokens": 8,
        "temperature": 0,
    }
    with openai.OpenAI(**options(models)) as client:
        whole = client.chat.completions.create(**asked).choices[0].message.content
        with client.chat.completions.create(stream=True, **asked) as pieces:
            parts = [piece.choices[0].delta.content or "" for piece in pieces if piece.choices]
    assert whole
    assert "".join(parts) == whole
    assert len(parts) > 2


def test_chat_async(models: Running) -> None:
    """The asynchronous client does the same, several times at once."""
    asked = {
        "model": names(models)[CHAT],
        "messages": [{"role": "user", "content": "once"}],
        "max_tokens": 8,
        "temperature": 0,
    }

    async def run() -> list[str]:
        async with openai.AsyncOpenAI(**options(models)) as client:

            async def one() -> str:
                pieces = await client.chat.completions.create(stream=True, **asked)
                return "".join([each.choices[0].delta.content or "" async for each in pieces if each.choices])

            return await asyncio.gather(*(one() for _ in range(4)))

    answers = asyncio.run(run())
    assert answers[0]
    assert len(set(answers)) == 1


def test_langchain(models: Running) -> None:
    """LangChain's chat model and embeddings do the same."""
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    told = {"base_url": f"{models.url}/v1", "api_key": "none", "max_retries": 0}
    chat = langchain.ChatOpenAI(model=names(models)[CHAT], max_tokens=8, temperature=0, **told)
    said = chat.invoke("once").content
    assert said
    assert "".join(str(piece.content) for piece in chat.stream("once")) == said
    embeddings = langchain.OpenAIEmbeddings(
        model=names(models)[EMBEDDING], check_embedding_ctx_length=False, **told
    )
    assert len(embeddings.embed_query("a ship")) > 8


def test_refused(attacked: tuple[Running, str]) -> None:
    """The client raises an error that states why the enclave is refused."""
    proxy, reason = attacked
    with openai.OpenAI(**options(proxy)) as client, pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model="any", input="a secret")
    assert refused.value.status_code == 502
    assert "the enclave is refused: " in str(refused.value)
    assert reason in str(refused.value)


def test_refused_async(attacked: tuple[Running, str]) -> None:
    """The asynchronous client, too, in a stream."""
    proxy, reason = attacked

    async def run() -> None:
        async with openai.AsyncOpenAI(**options(proxy)) as client:
            await client.chat.completions.create(model="any", messages=[], stream=True)

    with pytest.raises(openai.APIStatusError, match="the enclave is refused: ") as refused:
        asyncio.run(run())
    assert reason in str(refused.value)


def test_refused_langchain(attacked: tuple[Running, str]) -> None:
    """LangChain shows it, too."""
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    proxy, reason = attacked
    chat = langchain.ChatOpenAI(model="any", base_url=f"{proxy.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIStatusError, match="the enclave is refused: ") as refused:
        chat.invoke("a secret")
    assert reason in str(refused.value)
