"""Voice channels, as far as they are no media: who is in which, how they are heard and seen, and what they pass to each
other to find a way for the media.

    memberships   who is in a channel: MatrixRTC memberships in the room's state, by whatever client
    booth         the seats of those who came in over the gateway, and how each is heard and seen
    desk          the calls: voice.join, leave, state, signal, moderate

Somebody in a voice channel has a membership in the room's state, so that every client sees who is there, and is seen. A
delayed event (MSC4140) stands ready to take it away again; it is put off as long as the connection lives.
"""
