"""Hooks asked about messages and moments, and what the engine makes of their answers."""

import math
from collections.abc import Sequence

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MsgC
from spiceproxy import hooks
from spiceproxy.faults import Context, Engine, Moment, parse
from spiceproxy.faults.effects import AbortSession, Effect, Fired, Log, Send
from spiceproxy.hooks.hook import Hook
from spiceproxy.protocol.migration.model import Phase
from tests.faults.doing import INPUTS, MIGRATE, C, S, on
from tests.faults.relaying import fired, sent, unwire, wire

Told = list[tuple[str, dict[str, str]]]


def room(*asked: Hook, rules: str = "", limit_s: float = 5.0) -> tuple[hooks.Room, Told]:
    told: Told = []
    engine = Engine(parse(rules).rules if rules else (), live=True)
    return hooks.Room(engine, asked, lambda name, fields: told.append((name, fields)), limit_s=limit_s), told


async def migrate(asked: hooks.Room, context: Context | None = None) -> list[Effect]:
    return await asked.message(context or on(INPUTS), unwire(S, MIGRATE))


def answering(answer: object, **match: object) -> Hook:
    @hooks.message(**(match or {"message": "MIGRATE"}))  # type: ignore[arg-type]
    async def answers(_seen: hooks.Seen) -> hooks.Answer:
        return answer  # type: ignore[return-value]

    return answers


async def test_without_an_answer_the_same_bytes_pass() -> None:
    asked, told = room(answering(None))
    assert await migrate(asked) == [Send(C, MIGRATE)]
    assert told == []


async def test_a_hook_drops_and_is_reported_like_a_fault() -> None:
    asked, _ = room(answering(hooks.Drop()))
    effects = await migrate(asked)
    assert sent(effects) == []
    assert fired(effects) == ["hook answers"]


async def test_a_hook_sets_a_field() -> None:
    asked, _ = room(answering(hooks.Set({"flags": 0})))
    assert sent(await migrate(asked)) == [wire(1, bytes(4))]


async def test_a_hook_puts_a_message_in() -> None:
    asked, _ = room(answering([hooks.Inject("MIGRATE_FLUSH_MARK")]))
    effects = await migrate(asked)
    assert sent(effects, C) == [MIGRATE]
    assert sent(effects, S) == [wire(MsgC.MIGRATE_FLUSH_MARK)]


async def test_a_hook_sees_fields_and_where_it_is() -> None:
    seen: list[hooks.Seen] = []

    @hooks.message(message="MIGRATE")
    async def look(each: hooks.Seen) -> hooks.Answer:
        seen.append(each)
        return None

    await migrate(room(look)[0], on(INPUTS, hop=1, migration=2, phase=Phase.SWITCHING))
    (one,) = seen
    assert (one.name, one.sender, one.channel, one.leg) == ("SPICE_MSG_MIGRATE", S, "inputs:0", "destination")
    assert (one.migration, one.phase, one.body, one.error) == (2, "switching", b"\3\0\0\0", None)
    assert one.fields is not None
    assert one.fields["flags"] == 3


async def test_a_hook_is_not_asked_about_what_it_does_not_want() -> None:
    asked, _ = room(answering(hooks.Drop(), message="MIGRATE", channel="display"))
    assert sent(await migrate(asked)) == [MIGRATE]


async def test_what_counts_counts_within_a_session() -> None:
    asked, _ = room(answering(hooks.Drop(), message="MIGRATE", nth=2))
    other = Context("s2", "c2", INPUTS, 0)
    assert [bool(fired(await migrate(asked, each))) for each in (on(INPUTS), other, on(INPUTS), other)] == [
        False, False, True, True,
    ]  # fmt: skip


async def test_a_fault_that_drops_comes_first() -> None:
    rule = '[[fault]]\nname = "gone"\nmatch = { message = "MIGRATE" }\ndo = "drop"\n'
    asked, _ = room(answering(hooks.Set({"flags": 0})), rules=rule)
    assert fired(await migrate(asked)) == ["gone"]


async def test_an_exception_is_told_without_its_text_and_the_bytes_go_on() -> None:
    @hooks.message(message="MIGRATE")
    async def broken(_seen: hooks.Seen) -> hooks.Answer:
        secret = "".join(("hun", "ter2"))
        raise ValueError(secret)

    asked, told = room(broken)
    assert sent(await migrate(asked)) == [MIGRATE]
    ((name, fields),) = told
    assert (name, fields["hook"], fields["reason"]) == ("hook_failed", "hook broken", "ValueError")
    assert "raise ValueError(secret)" in fields["traceback"]
    assert "hunter2" not in str(told)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (7, "TypeError"),
        (["drop"], "it returned a str where an action was expected"),
        (hooks.Set({"flagz": 0}), "did you mean `flags`?"),
        (hooks.Refuse(), "`refuse` does not go with messages"),
    ],
)
async def test_an_answer_that_does_not_fit_is_told_and_the_bytes_go_on(answer: object, reason: str) -> None:
    asked, told = room(answering(answer))
    assert sent(await migrate(asked)) == [MIGRATE]
    ((name, fields),) = told
    assert name == "hook_failed"
    assert reason in fields["reason"]


async def test_a_hook_that_takes_too_long_is_abandoned(autojump_clock: object) -> None:
    ended: list[bool] = []

    @hooks.message(message="MIGRATE")
    async def slow(_seen: hooks.Seen) -> hooks.Answer:
        try:
            await trio.sleep(math.inf)
        finally:
            ended.append(True)
        return hooks.Drop()

    asked, told = room(slow, limit_s=2)
    begun = trio.current_time()
    assert sent(await migrate(asked)) == [MIGRATE]
    assert trio.current_time() - begun == pytest.approx(2)  # of the clock that jumps
    ((name, fields),) = told
    assert (name, fields["reason"]) == ("hook_abandoned", "took longer than 2 s")
    assert ended == [True]


async def test_cancelling_the_relay_is_no_failure_of_the_hook() -> None:
    @hooks.message(message="MIGRATE")
    async def slow(_seen: hooks.Seen) -> hooks.Answer:
        await trio.sleep(math.inf)
        return None

    asked, told = room(slow)
    with trio.CancelScope() as scope:
        scope.cancel()
        await migrate(asked)
    assert scope.cancelled_caught
    assert told == []


async def test_only_what_hooks_want_and_what_the_ledger_counts_is_held() -> None:
    bare, _ = room()
    asked, _ = room(answering(None, channel="main", message="MIGRATE_END"))
    before = set(bare.engine.wanted(ChannelType.MAIN, S))
    assert set(asked.engine.wanted(ChannelType.MAIN, S)) == before | {int(Main.MIGRATE_END)}
    revision = asked.engine.revision
    asked.use(())
    assert asked.engine.revision > revision
    assert set(asked.engine.wanted(ChannelType.MAIN, S)) == before


@pytest.mark.parametrize("ledger", [True, False])
def test_where_headers_have_serials_all_is_held_for_a_hook_whose_drops_have_to_add_up(ledger: bool) -> None:
    @hooks.message(channel="main", message="MIGRATE_END", ledger=ledger)
    async def end(_seen: hooks.Seen) -> hooks.Answer:
        return hooks.Drop()

    held = room(end)[0].engine.wanted(ChannelType.MAIN, S, mini_header=False)
    assert (Main.MOUSE_MODE in held) is ledger


async def test_sessions_channels_and_migrations_have_hooks() -> None:
    calls: list[str] = []

    @hooks.session()
    async def begun(seen: hooks.Seen) -> hooks.Answer:
        calls.append(f"session {seen.session}")
        return hooks.Log("hello")

    @hooks.channel(channel="inputs")
    async def linked(seen: hooks.Seen) -> hooks.Answer:
        calls.append(f"linked {seen.channel}")
        return None

    @hooks.migration(phase="switching")
    async def switching(seen: hooks.Seen) -> hooks.Answer:
        calls.append(f"phase {seen.phase}")
        return hooks.AbortSession()

    asked, _ = room(begun, linked, switching)
    context = on(INPUTS)
    first: Sequence[Effect] = await asked.moment(context, Moment.SESSION)
    assert [each.text for each in first if isinstance(each, Log)] == ["hello"]
    await asked.moment(context, Moment.LINKED)
    context.phase = Phase.CONNECTING
    assert await asked.moment(context, Moment.PHASE) == []
    context.phase = Phase.SWITCHING
    last = await asked.moment(context, Moment.PHASE)
    assert AbortSession() in last
    assert any(isinstance(each, Fired) for each in last)
    assert calls == ["session s1", "linked inputs:0", "phase switching"]
    asked.session_over("s1")


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ({"message": "MIGRATE_ENT"}, "did you mean"),
        ({"mesage": "MIGRATE"}, "did you mean `message`?"),
        ({"probability": 0.5}, "a hook decides for itself"),
        ({"moment": "linked"}, "is for hooks of sessions"),
    ],
)
def test_a_wrong_match_is_an_error_when_the_script_is_read(match: dict[str, object], reason: str) -> None:
    with pytest.raises(hooks.HookError, match=reason):
        hooks.message(**match)  # type: ignore[arg-type]


def test_a_hook_is_asynchronous() -> None:
    with pytest.raises(hooks.HookError, match="async def"):
        hooks.message(message="MIGRATE")(lambda _seen: None)  # type: ignore[arg-type,return-value]
