"""Answer requests to an application, in process."""

from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from kluis.enclave import Enclave

api = FastAPI()


class Person(BaseModel):
    """One person."""

    name: str
    age: int


@api.post("/persons")
def add(person: Person) -> dict[str, int]:
    """Double the age."""
    return {person.name: 2 * person.age}


app = Enclave("fastapi")


@app.ecall
def check() -> str:
    """Answer requests to an application, in process."""
    client = TestClient(api)
    right = client.post("/persons", json={"name": "Jansen", "age": 21})
    wrong = client.post("/persons", json={"name": "Jansen", "age": "old"})
    return f"{right.json()} {wrong.status_code}"
