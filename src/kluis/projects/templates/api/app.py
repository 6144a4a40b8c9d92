"""The API inside the enclave. The host forwards ciphertext, and cannot read requests or answers."""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field

from kluis.enclave import Enclave, asgi

app = Enclave("project_name", product_id=1, svn=1)
# FastAPI's pages load scripts of another site, so they are off. /openapi.json describes the API.
api = FastAPI(title="project_name", docs_url=None, redoc_url=None)


class Ages(BaseModel):
    """The ages of a group."""

    ages: Annotated[list[Annotated[int, Field(ge=0, le=130)]], Field(min_length=5, max_length=10_000)]


class Mean(BaseModel):
    """The mean age of a group."""

    mean: float


@api.post("/mean")
async def mean(group: Ages) -> Mean:
    """Return the mean of at least five ages."""
    return Mean(mean=sum(group.ages) / len(group.ages))


asgi.host(app, api)
