"""Messages between hosts of one store, for handing over its key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "messages",
        sa.Column("store", sa.Integer, sa.ForeignKey("stores.id"), primary_key=True),
        sa.Column("joiner", sa.LargeBinary(16), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
