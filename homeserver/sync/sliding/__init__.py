"""Sliding sync: the rooms that a client looks at, in the order of what happened last, and what changed in them.

MSC4186: https://github.com/matrix-org/matrix-spec-proposals/pull/4186
"""
