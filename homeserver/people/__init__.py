"""Finding people: the user directory, and the rooms that one shares with somebody.

words.py       by which words somebody is found
directory.py   who is in it, who may find whom
mutual.py      rooms shared
"""
