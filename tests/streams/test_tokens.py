"""The tokens of /sync and /messages as text: what is written is read again, and nothing else is."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from homeserver.errors import InvalidParam
from homeserver.streams.tokens import MOST_HELD, RoomToken, StreamToken, parse_room_token, parse_stream_token

positions = st.integers(-(10**17), 10**17)
room_tokens = st.lists(positions, min_size=1, max_size=1 + MOST_HELD, unique=True).map(
    lambda found: RoomToken(min(found), tuple(sorted(found)[1:]))
)
texts = st.text("t1s_.-0123456789\u0663 +", max_size=12) | st.builds("t1_{}".format, st.text("_.-012", max_size=9))


@given(room_tokens)
def test_a_room_token_reads_as_it_was_written(token: RoomToken) -> None:
    assert parse_room_token(str(token)) == token


@given(st.builds(StreamToken, *[st.integers(0, 10**17)] * 3))
def test_a_stream_token_reads_as_it_was_written(token: StreamToken) -> None:
    assert parse_stream_token(str(token)) == token
    assert parse_room_token(str(token)) == RoomToken(token.position)


@given(texts)
def test_what_is_read_is_a_token(text: str) -> None:
    try:
        token = parse_room_token(text, "to")
    except InvalidParam as error:
        assert "`to`" in str(error)
        return
    assert len(token.held) <= MOST_HELD
    assert list(token.held) == sorted({one for one in token.held if one > token.position})


@given(room_tokens, positions)
def test_passing_an_event_divides_what_lies_on_its_two_sides(token: RoomToken, at: int) -> None:
    """Of all positions, those before an event are those of the place without it and what came after it."""

    def is_before(place: RoomToken, position: int) -> bool:
        return position <= place.position or position in place.held

    around = {at - 1, at, at + 1, token.position, *token.held}
    if is_before(token, at):
        left = {one for one in around if is_before(token.before(at), one)}
        assert left == {one for one in around if is_before(token, one) and one < at}
    else:
        passed = {one for one in around if is_before(token.behind(at), one)}
        assert passed == {one for one in around if is_before(token, one) or one <= at}


@pytest.mark.parametrize("text", ["t1_5_6", "t1_-5_-4.3", "t1_5_6.7.8.9.10.11.12.13"])
def test_places_with_events_held_back(text: str) -> None:
    assert str(parse_room_token(text)) == text


def test_what_follows_in_another_token_is_not_held_back() -> None:
    assert parse_room_token("s1_5_77_4") == parse_room_token("ss1_5_6.7") == RoomToken(5)
