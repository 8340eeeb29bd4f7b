"""The Matrix client API: a feature is a file that holds its endpoints entire."""
