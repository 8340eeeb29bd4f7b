"""End-to-end encryption, as far as a server has to do with it: it passes public keys on, and messages from device to
device, and keeps what only their owners can read. It never has a key to anything.

lists       what happens to the devices of people here, written down together with what others are told of it
news        whose devices clients should ask for again, between two tokens
states      what waits for each device that is here: messages, and how many one-time keys it has left
uploads     keys/upload            signing     cross-signing keys and signatures
queries     keys/query             claims      keys/claim
letters     messages from device to device
backups     backups of room keys   dehydrated  devices that wait on the server
sections    what of all this a /sync says
"""
