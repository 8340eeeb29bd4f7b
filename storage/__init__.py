"""All SQL of the project: rows in, frozen values out, on SQLite and PostgreSQL. Knows nothing of HTTP or of rules."""
