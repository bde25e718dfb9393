"""Jobs in an SQL database, SQLite or PostgreSQL, and what surrounds them."""
