"""`/sync`: what changed for one user since a token, from memory where the token is recent, from SQL where it is not."""
