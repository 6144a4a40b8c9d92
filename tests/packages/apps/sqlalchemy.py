"""Keep and query objects in SQLite in memory."""

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from kluis.enclave import Enclave


class Base(DeclarativeBase):
    """Of all tables."""


class Visit(Base):
    """One visit."""

    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True)
    town: Mapped[str]
    cost: Mapped[float]


app = Enclave("sqlalchemy")


@app.ecall
def check() -> str:
    """Keep and query objects in SQLite in memory."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(
            [Visit(town=town, cost=cost) for town, cost in (("Delft", 10), ("Delft", 5), ("Gouda", 7))]
        )
        session.commit()
        query = select(Visit.town, func.sum(Visit.cost)).group_by(Visit.town).order_by(Visit.town)
        return str([tuple(row) for row in session.execute(query)])
