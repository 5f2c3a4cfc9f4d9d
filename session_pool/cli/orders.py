"""The commands of whoever operates a shared pool: `status`, `warm`, `pause` and their like.

Each says its order to the store and ends; the processes that serve the agents go by it. Only `warm`
is a pool for as long as it takes, since it creates. Knows the office and the pool's public face.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from session_pool import ConfigError, SessionPool, SessionPoolError
from session_pool.cli import standing
from session_pool.cli.screen import can_move
from session_pool.cli.stopping import Stop, stopping
from session_pool.cli.words import Config, Failed, Json, Store, Url, Wrong, refused
from session_pool.config import Settings, load
from session_pool.desks import unknown
from session_pool.foundry import check_agent_rid
from session_pool.office import UNREACHABLE, Office, Standing

EVERY_S: Final = 2.0
"""Between two looks of `status --watch`: often enough for an eye, and a short question each."""

Agent = Annotated[str, typer.Argument(metavar="AGENT", help="A listed name, or a RID.")]

_CLEAR: Final = "\x1b[H\x1b[2J"


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line, in the order of its help."""
    for command in (status, warm, pause, resume, drain, recycle, evict):
        app.command()(command)


def status(
    agent: Annotated[
        str | None,
        typer.Argument(metavar="AGENT", help="A listed name, or a RID; else all that are listed."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every 2 s, until Ctrl-C.")
    ] = False,
    config: Config = None,
    store: Store = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show how the agents of a shared pool stand.

    The numbers are the store's, so they count what all processes on it do:
    where the sessions are now, who waits for one, and how many there were.
    The state is open, paused, or drained.

    \b
    Examples:
      session-pool status --config session-pool.toml
      session-pool status orders --store redis://host --watch
      session-pool status --json | python -m json.tool
    """
    settings = _settings(agent, config, store, url)
    if agent is None and not settings.agents:
        raise Wrong("no agent is listed in the configuration; name one: session-pool status RID")

    async def look(office: Office, stop: Stop) -> None:
        shown = False
        while True:
            told = await office.standing(agent)
            _print(settings, told, watch=watch, as_json=as_json, again=shown)
            shown = True
            if not watch or await _asked_to_end(stop):
                return

    _done(settings, look)


def warm(
    agent: Agent,
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="How many, max_idle at most.")],
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="How long to wait for them.")
    ] = 60.0,
    config: Config = None,
    store: Store = None,
    url: Url = None,
) -> None:
    """Have N sessions ready now, once, as before a rush.

    Creates what is missing, for all processes on the store, and waits for it.
    Afterwards the policy's min_idle holds again.

    \b
    Example:
      session-pool warm orders 20 --config session-pool.toml
    """
    settings = _settings(agent, config, store, url)
    _shared(settings)
    arguments = settings.arguments
    # Of this agent only: the others are the matter of those who serve them.
    arguments["agents"] = {
        name: it for name, it in settings.agents.items() if agent in (name, it.rid)
    }
    try:
        pool = SessionPool(**arguments)
    except ConfigError as error:
        raise refused(error) from error

    async def create(stop: Stop) -> None:
        async with pool:
            await stop.unless(pool.warm(agent, number, timeout))

    _ended(create)
    print(f"{agent} has {number} ready")


def pause(agent: Agent, config: Config = None, store: Store = None, url: Url = None) -> None:
    """Hand out and create nothing of an agent, in any process.

    Who waits, and who comes, is refused with PoolPaused. Leases go on and end
    as always. It holds until `resume`, for processes that start later too.

    \b
    Example:
      session-pool pause orders --config session-pool.toml
    """
    _order(agent, config, store, url, lambda office: office.pause(agent))
    print(f"{agent} is paused")


def resume(agent: Agent, config: Config = None, store: Store = None, url: Url = None) -> None:
    """End a pause or a drain.

    \b
    Example:
      session-pool resume orders --config session-pool.toml
    """
    _order(agent, config, store, url, lambda office: office.resume(agent))
    print(f"{agent} is open")


def drain(agent: Agent, config: Config = None, store: Store = None, url: Url = None) -> None:
    """Pause an agent, and retire what lies ready.

    What is leased or in quarantine is retired as it ends; what belongs to a
    conversation is left to its expiry. It holds until `resume`.

    \b
    Example:
      session-pool drain orders --config session-pool.toml
    """
    _order(agent, config, store, url, lambda office: office.drain(agent))
    print(f"{agent} is drained")


def recycle(agent: Agent, config: Config = None, store: Store = None, url: Url = None) -> None:
    """Give no session made so far to anybody new.

    What lies ready is retired, and replaced by the processes that keep it
    ready; conversations keep the sessions that they have. For a new version
    of the agent, say.

    \b
    Example:
      session-pool recycle orders --config session-pool.toml
    """
    _order(agent, config, store, url, lambda office: office.recycle(agent))
    print(f"{agent} is recycled")


def evict(
    rid: Annotated[str, typer.Argument(metavar="RID", help="The session's.")],
    force: Annotated[
        bool,
        typer.Option("--force", help="Also one kept for a conversation, which loses its context."),
    ] = False,
    agent: Annotated[
        str | None,
        typer.Option(
            metavar="RID",
            help="Whose session it is; else it is looked for at all agents that are listed.",
        ),
    ] = None,
    config: Config = None,
    store: Store = None,
    url: Url = None,
) -> None:
    """Take one session out of use, whoever has it.

    The lease of one that is held is lost, at its next renewal; its
    conversation goes on in a new session, and is told so.

    \b
    Examples:
      session-pool evict ri.aip-agents..session.292c05b7-... --force
      session-pool evict ri.aip-agents..session.292c05b7-... \\
        --agent ri.aip-agents..agent.732cd5b4-... --store redis://host
    """
    settings = _settings(agent, config, store, url)
    if agent is None and not settings.agents:
        raise Wrong("no agent is listed in the configuration; say whose it is: --agent RID")

    async def take(office: Office, _: Stop) -> None:
        if agent is not None:
            office.serve(agent)
        try:
            await office.evict(rid, force=force)
        except ConfigError as error:
            told = str(error).replace("force=True", "--force")
            raise Wrong(told.replace("this pool knows", "is listed or given by --agent")) from error

    _done(settings, take)
    print(f"{rid} is taken out of use")


# --------------------------------------------------------------------------------- what they share


def _settings(
    agent: str | None, config: Path | None, store: str | None, url: str | None
) -> Settings:
    """The configuration, in which the agent can be meant; nothing is connected to yet."""
    try:
        settings = load(config, store=store, url=url)
        if agent is not None and agent not in settings.agents:
            if not agent.startswith("ri."):
                raise unknown(agent, settings.agents)
            check_agent_rid(agent)
    except ConfigError as error:
        raise refused(error) from error
    return settings


def _shared(settings: Settings) -> None:
    if settings.store.partition("://")[0] == "memory":
        raise Wrong(UNREACHABLE)


def _order(
    agent: str,
    config: Path | None,
    store: str | None,
    url: str | None,
    order: Callable[[Office], Coroutine[Any, Any, None]],
) -> None:
    _done(_settings(agent, config, store, url), lambda office, _: order(office))


def _done(settings: Settings, work: Callable[[Office, Stop], Coroutine[Any, Any, None]]) -> None:
    """Do something in an office; what was ordered as a signal comes is carried to its end."""
    try:
        office = Office(settings)
    except ConfigError as error:
        raise refused(error) from error

    async def inside(stop: Stop) -> None:
        async with office:
            await work(office, stop)

    async def do(stop: Stop) -> None:
        await stop.unless(inside(stop))

    _ended(do)


def _ended(work: Callable[[Stop], Coroutine[Any, Any, None]]) -> None:
    """Run something to its end.

    Raises:
        Wrong, Failed: why it could not be done.
        typer.Exit: a signal ended it.
    """

    async def run() -> int:
        with stopping() as stop:
            try:
                await work(stop)
            except ConfigError as error:
                raise refused(error) from error
            except SessionPoolError as error:
                raise Failed(str(error)) from error
            return 0 if stop.signal is None else 128 + stop.signal

    code = asyncio.run(run())
    if code:
        raise typer.Exit(code)


async def _asked_to_end(stop: Stop) -> bool:
    try:
        async with asyncio.timeout(EVERY_S):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def _print(
    settings: Settings,
    told: list[Standing],
    *,
    watch: bool,
    as_json: bool,
    again: bool,
) -> None:
    if as_json:
        indent = None if watch else 2
        text = json.dumps(standing.as_json(settings.store, told), indent=indent)
    else:
        text = standing.table(told)
        if watch and can_move(sys.stdout):
            text = _CLEAR + text
        elif again:
            text = "\n" + text
    print(text, flush=True)
