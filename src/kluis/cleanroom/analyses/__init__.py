"""The analyses that an agreement names: models and queries, their noise, and the limit on figures."""
