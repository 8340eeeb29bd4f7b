"""The rules about `m.room.member`: who may join, invite, leave, be removed, be banned and knock.

Spec: https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules, rule 5 (rule 4 in versions 6 to 11).
"""

from __future__ import annotations

from federation.room.auth.case import Case
from federation.room.auth.power_levels import room_creators
from federation.room.auth.selection import JOIN_RULES
from federation.room.auth.third_party import check_third_party_invite
from federation.room.auth.verdict import ALLOWED, Refused, Verdict
from federation.room.identifiers import InvalidIdentifier, UserId, parse_user_id, server_of


def check_membership(case: Case) -> Verdict:
    """Judge an `m.room.member` event."""
    target = case.event.state_key
    content = case.event.content
    if target is None:
        return case.refuse("member.shape", "it has no state key")
    if "membership" not in content:
        return case.refuse("member.shape", "it states no membership")
    if case.version.restricted and "join_authorised_via_users_server" in content:
        refused = _check_authority_signed(case)
        if refused is not None:
            return refused
    match content["membership"]:
        case "join":
            return _check_join(case, target)
        case "invite":
            return _check_invite(case, target)
        case "leave":
            return _check_leave(case, target)
        case "ban":
            return _check_ban(case, target)
        case "knock" if case.version.knock:
            return _check_knock(case, target)
        case _:
            return case.refuse("member.unknown", "its membership is unknown")


def _check_authority_signed(case: Case) -> Refused | None:
    authority = _authority(case)
    if authority is None:
        return case.refuse("member.authorised.signature", "its authority is not a user id")
    if case.signed_by is not None and not case.signed_by(case.event, server_of(authority)):
        return case.refuse("member.authorised.signature", "the server of its authority did not sign it")
    return None


def _authority(case: Case) -> UserId | None:
    """Who let somebody in by a restricted join rule, going by the event."""
    try:
        return parse_user_id(case.event.content.get("join_authorised_via_users_server"))
    except InvalidIdentifier:
        return None


def _check_join(case: Case, target: str) -> Verdict:
    if case.event.prev_events == (case.create.event_id,) and _is_first_member(case, target):
        return ALLOWED
    if case.event.sender != target:
        return case.refuse("member.join.sender", "nobody can be made to join")
    membership = case.membership(target)
    if membership == "ban":
        return case.refuse("member.join.banned", "the user is banned")
    here_or_invited = membership in ("join", "invite")
    join_rule = _join_rule(case)
    if join_rule == "invite" or (join_rule == "knock" and case.version.knock):
        if here_or_invited:
            return ALLOWED
    elif (join_rule == "restricted" and case.version.restricted) or (
        join_rule == "knock_restricted" and case.version.knock_restricted
    ):
        return ALLOWED if here_or_invited else _check_restricted_join(case)
    elif join_rule == "public":
        return ALLOWED
    return case.refuse("member.join.otherwise", "the room's join rule does not let the user in")


def _is_first_member(case: Case, target: str) -> bool:
    """Whether the user may be the first to join. Additional creators may not: the create event's sender does."""
    if case.version.creator_is_sender:
        return target == case.create.sender
    return target in room_creators(case.version, case.create)


def _check_restricted_join(case: Case) -> Verdict:
    authority = _authority(case)
    if authority is None or case.membership(authority) != "join" or case.level(authority) < case.power.invite:
        return case.refuse("member.join.restricted.authorised", "no member who may invite vouches for the user")
    return ALLOWED


def _check_invite(case: Case, target: str) -> Verdict:
    if "third_party_invite" in case.event.content:
        return check_third_party_invite(case, target)
    if case.membership(case.event.sender) != "join":
        return case.refuse("member.invite.sender", "the sender is not in the room")
    if case.membership(target) in ("join", "ban"):
        return case.refuse("member.invite.target", "the user is in the room already, or banned")
    if case.level(case.event.sender) >= case.power.invite:
        return ALLOWED
    return case.refuse("member.invite.otherwise", "the sender may not invite")


def _check_leave(case: Case, target: str) -> Verdict:
    sender = case.event.sender
    membership = case.membership(target)
    if sender == target:
        if membership in ("invite", "join") or (membership == "knock" and case.version.knock):
            return ALLOWED
        return case.refuse("member.leave.own", "the user has nothing to leave")
    if case.membership(sender) != "join":
        return case.refuse("member.leave.sender", "the sender is not in the room")
    level = case.level(sender)
    if membership == "ban" and level < case.power.ban:
        return case.refuse("member.leave.banned", "the sender may not lift a ban")
    if level >= case.power.kick and case.level(target) < level:
        return ALLOWED
    return case.refuse("member.leave.otherwise", "the sender may not remove the user")


def _check_ban(case: Case, target: str) -> Verdict:
    if case.membership(case.event.sender) != "join":
        return case.refuse("member.ban.sender", "the sender is not in the room")
    level = case.level(case.event.sender)
    if level >= case.power.ban and case.level(target) < level:
        return ALLOWED
    return case.refuse("member.ban.otherwise", "the sender may not ban the user")


def _check_knock(case: Case, target: str) -> Verdict:
    join_rule = _join_rule(case)
    if join_rule != "knock" and not (join_rule == "knock_restricted" and case.version.knock_restricted):
        return case.refuse("member.knock.join_rule", "the room's join rule lets nobody knock")
    if case.event.sender != target:
        return case.refuse("member.knock.sender", "nobody can knock for another")
    if case.membership(target) not in ("ban", "invite", "join"):
        return ALLOWED
    return case.refuse("member.knock.otherwise", "the user is banned, invited or in the room")


def _join_rule(case: Case) -> str:
    """The room's join rule: `invite` where the room does not say."""
    join_rules = case.state(*JOIN_RULES)
    join_rule = join_rules.content.get("join_rule", "invite") if join_rules is not None else "invite"
    return join_rule if isinstance(join_rule, str) else "private"
