"""The migrations of the database's schema; alembic records them in the database."""
