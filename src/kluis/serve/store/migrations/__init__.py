"""How the database came to its schema, step by step; alembic keeps count of them in the database."""
