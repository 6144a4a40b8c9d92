"""Group and join two tables."""

import pandas as pd

from kluis.enclave import Enclave

app = Enclave("pandas")


@app.ecall
def check() -> str:
    """Group and join two tables."""
    visits = pd.DataFrame({"person": [1, 1, 2, 3], "cost": [10.0, 20.0, 5.0, 7.5]})
    persons = pd.DataFrame({"person": [1, 2, 3], "town": ["Delft", "Delft", "Gouda"]})
    costs = visits.merge(persons, on="person").groupby("town")["cost"].sum()
    return f"{costs['Delft']} {costs['Gouda']}"
