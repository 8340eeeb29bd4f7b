"""What people here want to know of other servers: their aliases, directories and profiles.

Each module fills a port that the house states where it is needed; `build` puts them together.
"""
