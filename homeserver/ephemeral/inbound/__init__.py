"""What passes elsewhere and is told to us: typing, receipts and presence of other servers' people.

Each module takes one type of EDU (`homeserver.rooms.serve.edus.EduHandler`), checks who may say what, and puts it on
the board where local readers see it. What is malformed or not the peer's to say is dropped without a word.
"""
