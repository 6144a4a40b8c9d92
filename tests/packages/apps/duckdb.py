"""Answer SQL with a join, a window and an aggregate."""

import duckdb

from kluis.enclave import Enclave

app = Enclave("duckdb")


@app.ecall
def check() -> str:
    """Answer SQL with a join, a window and an aggregate."""
    connection = duckdb.connect()
    connection.execute("create table n as select range as i, range % 7 as k from range(100000)")
    query = "select k, sum(i) from n group by k order by k"
    ranked = "select max(r) from (select row_number() over (partition by k order by i) as r from n)"
    return f"{connection.execute(query).fetchall()[3]} {connection.execute(ranked).fetchone()}"
