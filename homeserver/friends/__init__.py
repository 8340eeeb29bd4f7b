"""Friends and direct rooms: what two people are to each other, as state of the one room that they share.

halves       what each side says, and what follows from both (pure)
pairs        which room is that of two people, and what its state says
words        saying one's own half: in the room, or beside it where that can't be
direct       opening the room of two people, and keeping `m.direct` right
friendships  asking, accepting, declining, taking back, ending
watch        what others do: by other servers, or by clients that know nothing of friends
abroad       telling friends' servers what can't be said in the room
mutes        rooms that somebody wants to hear nothing of
notices      who wants to hear of it
"""
