"""The packages ``openai`` and ``langchain-openai``, unmodified, over the attested transport.

Each client is served. It refuses a man in the middle, another image, and evidence from before. None of them
gets a byte of the request, and the error that the client raises shows the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from kluis import client as kluis_client
from kluis.appraisal import Policy
from kluis.enclave.attested_tls.link import Link, client_context
from kluis.formats.kluis.attested_tls import Question, Role
from kluis.host import attested
from tests.adversary.test_relay import Relay, ask, exchange, shake
from tests.clients.openai.serving import Service, policy

SECRET = "a prompt that nobody else reads"
ASKED: dict[str, Any] = {
    "model": "chat", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 9, "seed": 1
}  # fmt: skip
Use = Callable[[Service, str, Policy], str]


def plain(service: Service, url: str, wanted: Policy) -> openai.OpenAI:
    """OpenAI's client with Kluis's transport."""
    http = httpx.Client(transport=service.transport(wanted), timeout=120)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0)


def asynchronous(service: Service, url: str, wanted: Policy) -> openai.AsyncOpenAI:
    """Likewise, asynchronous."""
    transport = attested.async_transport(wanted, root=service.root, collateral=service.collateral)
    http = httpx.AsyncClient(transport=transport, timeout=120)
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0)


def use_chat(service: Service, url: str, wanted: Policy) -> str:
    with plain(service, url, wanted) as client:
        return client.chat.completions.create(**ASKED).choices[0].message.content or ""


def use_stream(service: Service, url: str, wanted: Policy) -> str:
    with plain(service, url, wanted) as client:
        parts = client.chat.completions.create(**ASKED, stream=True)
        return "".join(part.choices[0].delta.content or "" for part in parts)


def use_embeddings(service: Service, url: str, wanted: Policy) -> str:
    with plain(service, url, wanted) as client:
        return str(len(client.embeddings.create(model="embeddings", input=SECRET).data[0].embedding))


def use_async(service: Service, url: str, wanted: Policy) -> str:
    async def use() -> str:
        async with asynchronous(service, url, wanted) as client:
            parts = await client.chat.completions.create(**ASKED, stream=True)
            return "".join([part.choices[0].delta.content or "" async for part in parts])

    return asyncio.run(use())


def use_ours(service: Service, url: str, wanted: Policy) -> str:
    with kluis_client.OpenAI(**{**service.options(wanted), "base_url": f"{url}/v1"}) as client:
        return client.chat.completions.create(**ASKED).choices[0].message.content or ""


@contextlib.contextmanager
def langchain(kind: str, service: Service, url: str, wanted: Policy, **options: Any) -> Iterator[Any]:
    """LangChain's model of a kind, over OpenAI's client."""
    reason = "langchain-openai is not installed: scripts/setup.sh test"
    made = getattr(pytest.importorskip("langchain_openai", reason=reason), kind)
    with httpx.Client(transport=service.transport(wanted), timeout=120) as http:
        yield made(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http, **options)


def chat_of(service: Service, url: str, wanted: Policy) -> contextlib.AbstractContextManager[Any]:
    return langchain("ChatOpenAI", service, url, wanted, model="chat", seed=1, max_tokens=9)


def use_langchain(service: Service, url: str, wanted: Policy) -> str:
    with chat_of(service, url, wanted) as model:
        return str(model.invoke(SECRET).content)


def use_langchain_stream(service: Service, url: str, wanted: Policy) -> str:
    with chat_of(service, url, wanted) as model:
        return "".join(str(part.content) for part in model.stream(SECRET))


def use_langchain_embeddings(service: Service, url: str, wanted: Policy) -> str:
    # Without the check the client sends texts; with it, the tokens of OpenAI's own models.
    options = {"model": "embeddings", "check_embedding_ctx_length": False}
    with langchain("OpenAIEmbeddings", service, url, wanted, **options) as model:
        return str(len(model.embed_query(SECRET)))


CHATS: dict[str, Use] = {
    "openai": use_chat,
    "openai-stream": use_stream,
    "openai-async": use_async,
    "kluis.client": use_ours,
    "langchain": use_langchain,
    "langchain-stream": use_langchain_stream,
}
USES: dict[str, Use] = CHATS | {
    "openai-embeddings": use_embeddings,
    "langchain-embeddings": use_langchain_embeddings,
}


def test_all_clients_get_the_same(service: Service) -> None:
    """Every client gets the same answer for the same seed."""
    answers = {name: use(service, service.url, service.policy) for name, use in CHATS.items()}
    assert len(set(answers.values())) == 1, answers
    assert all(answers.values())


@pytest.mark.parametrize("name", ["openai-embeddings", "langchain-embeddings"])
def test_embeddings(service: Service, name: str) -> None:
    """Each client gets the model's numbers."""
    assert USES[name](service, service.url, service.policy) == "16"


def error_of(use: Use, service: Service, url: str, wanted: Policy) -> str:
    """What a person sees of the error."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of each package
        use(service, url, wanted)
    return "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("name", USES)
def test_another_image(service: Service, name: str) -> None:
    """Each client refuses an image that its policy does not accept, and shows the rule."""
    assert "svn: want at least 2, got 1" in error_of(USES[name], service, service.url, policy(svn=2))


@pytest.mark.parametrize("name", USES)
def test_a_man_in_the_middle(service: Service, name: str) -> None:
    """Each client refuses one that ends TLS itself, and forwards the enclave's genuine evidence."""
    relay = Relay(lambda _, question: _answer_of(service, question))
    assert "exporter" in error_of(USES[name], service, relay.url, service.policy)
    assert relay.heard == []


@pytest.mark.parametrize("name", USES)
def test_evidence_from_before(service: Service, name: str) -> None:
    """Each client refuses genuine evidence that was requested earlier."""
    old = _answer_of(service, Question(bytes(32)))
    relay = Relay(lambda _, question: old)
    assert "nonce" in error_of(USES[name], service, relay.url, service.policy)
    assert relay.heard == []


def _answer_of(service: Service, question: Question) -> bytes:
    port = int(service.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as sock:
        link = Link(client_context(), Role.CLIENT)
        shake(sock, link)
        return exchange(sock, link, ask(link, b"POST", question.encode())).partition(b"\r\n\r\n")[2]
