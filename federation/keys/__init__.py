"""The keys that servers sign with: ours, those of others, and who vouches for them.

Spec: https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys
"""
