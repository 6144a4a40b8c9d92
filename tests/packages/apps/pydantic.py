"""Validate, and refuse."""

from pydantic import BaseModel, Field, ValidationError

from kluis.enclave import Enclave


class Person(BaseModel):
    """One person."""

    name: str = Field(max_length=20)
    born: int = Field(ge=1900, le=2026)


app = Enclave("pydantic")


@app.ecall
def check() -> str:
    """Validate, and refuse."""
    person = Person.model_validate_json('{"name": "Jansen", "born": "1951"}')
    try:
        Person(name="Jansen", born=1851)
    except ValidationError as error:
        return f"{person.born} {error.errors()[0]['type']}"
    return "accepted"
