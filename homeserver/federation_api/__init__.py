"""What this server answers to other servers, a file for each kind of question.

Spec: https://spec.matrix.org/v1.19/server-server-api/
"""
