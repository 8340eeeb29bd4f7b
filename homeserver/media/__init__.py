"""People's files: taken in, kept, given out, made smaller, fetched from other servers, and forgotten."""
