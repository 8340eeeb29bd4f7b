"""Where files are kept: a port, and the two ways to fill it."""
