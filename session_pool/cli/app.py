"""The commands: their words, options and exit codes. What they do stands in the rooms beside this.

Errors are one line on stderr; 1 is a failure, 2 is wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from session_pool import ConfigError, SessionPoolError
from session_pool.cli import checking, emulate, leasing, orders, streams
from session_pool.cli import demo as demonstration
from session_pool.cli.screen import SilentScreen, screen_for
from session_pool.cli.stopping import stopping
from session_pool.cli.words import Config, Failed, Json, Seed, Store, Url, Wrong, refused
from session_pool.config import load, load_store
from session_pool.emulator import AGENT_RID, AgentSetup, Emulator
from session_pool.sections import without_secrets
from session_pool.stores import open as stores

# Plain help, which reads the same in a terminal, a pipe and a log.
app: Final = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# Whatever typer refuses on a command line. The class is click's, which newer typers carry inside.
_USAGE: Final = cast(
    "type[Exception]",
    next(one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException"),
)


def run() -> int:
    """Run the command line, and say which code to exit with."""
    try:
        return streams.finish(_run())
    except BrokenPipeError:  # who read the output has gone; there is nobody to complain to
        return streams.finish(1)
    except streams.Unwritable as error:
        return streams.finish(_tell(str(error), 1))


def _run() -> int:
    try:
        return int(app(prog_name="session-pool", standalone_mode=False) or 0)
    except _USAGE as error:
        told = error.format_message() if hasattr(error, "format_message") else str(error)
        return _tell(told, 2)
    except Wrong as error:
        for line in str(error).splitlines():
            _tell(line, 2)
        return 2
    except Failed as error:
        return _tell(str(error), error.code)
    except typer.Abort:
        return 130


def _tell(message: str, code: int) -> int:
    streams.tell(f"session-pool: {' '.join(message.split())}")
    return code


def _version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"session-pool {metadata.version('session-pool')}")
        except metadata.PackageNotFoundError:
            raise Failed("this is a source tree that was not installed, so no version") from None
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Live, exclusively leased conversation sessions of Foundry's AIP Agents.

    \b
    Examples, from a first look to the main job:
      session-pool demo                    # needs nothing
      session-pool emulator                # paste what it prints into a shell
      session-pool check                   # what is set there, and by what
      session-pool lease AGENT -- ./ask.sh # AGENT: a RID, or a listed name

    \b
    Operating a pool on a shared store:
      session-pool status                  # and status --watch
      session-pool drain AGENT             # and warm, pause, resume, recycle
      session-pool evict RID               # one session, whoever has it

    The stack and its token come from FOUNDRY_HOSTNAME and FOUNDRY_TOKEN, or
    from a file: see config/session-pool.example.toml. Each command has --help.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@app.command()
def demo(
    as_json: Json = False,
    seconds: Annotated[
        float, typer.Option(min=1, max=86400, metavar="S", help="How long it takes, about.")
    ] = 20.0,
    seed: Seed = None,
    lifetime_s: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=86400,
            metavar="S",
            help="A session's life after its last exchange; 6, or less where the demo is short.",
            show_default=False,
        ),
    ] = None,
    fault: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Watch a pool at work against an emulated stack; needs nothing.

    Three agents, a dozen conversations and some workers on a real HTTP server in this process,
    with sessions that live for seconds: created on demand, leased, talked to, seen to expire,
    replaced before they do. In the end the server's own audit says whether the pool kept its
    promises; the exit code is 1 if it did not.

    \b
    Example:
      session-pool demo
      session-pool demo --json --seconds 10 | python -m json.tool
    """
    life_s = min(6.0, max(2.0, 0.3 * seconds)) if lifetime_s is None else lifetime_s
    seed = secrets.randbits(16) if seed is None else seed
    plan = demonstration.Plan(seconds, life_s, seed, tuple(fault or ()))
    raise typer.Exit(asyncio.run(_demo(plan, as_json=as_json)))


async def _demo(plan: demonstration.Plan, *, as_json: bool) -> int:
    screen = SilentScreen() if as_json else screen_for(sys.stdout)
    with stopping() as stop:
        try:
            summary = await demonstration.perform(plan, screen, stop)
        except ValueError as error:
            raise Wrong(str(error)) from error
        except BrokenPipeError:
            raise
        except (SessionPoolError, OSError) as error:
            raise Failed(f"the demo could not be played: {error}") from error
        if as_json:
            print(json.dumps(summary.as_json(), indent=2), flush=True)
        return demonstration.exit_code(summary, stop)


_EMULATOR_HELP: Final = """Run a local AIP Agents server, to develop and test against.

Every endpoint and error of the session API, OAuth2 client credentials, and faults as scripted.
It prints its address, a token, an agent, and lines to paste into another shell.

\b
Examples:
  session-pool emulator
  session-pool emulator --lifetime-s 60 --fault create:3:lost_after \\
    --fault 'exchange:10%:429:retry_after=2'
  session-pool emulator --listen 127.0.0.1:0 --set any_agent=no --json
"""

_EMULATOR_EPILOG: Final = f"""\b
A fault is operation:which:kind[:option=value]...
  operation  create, get, list, delete, blocking_continue,
             streaming_continue, cancel, content, trace, token, ...;
             or exchange, api, any
  which      3 (the third), * (each), /5 (each fifth), 10% (by chance)
  kind       an error's name (AgentNotFound), or one of these:

\b
{emulate.kinds()}
"""


@app.command(help=_EMULATOR_HELP, epilog=_EMULATOR_EPILOG)
def emulator(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Or unix:///path; port 0 is any free one.")
    ] = "127.0.0.1:8760",
    lifetime_s: Annotated[
        float, typer.Option(metavar="S", help="A session's life after its last exchange.")
    ] = 86400.0,
    create_latency_s: Annotated[
        float, typer.Option(metavar="S", help="How long a creation takes.")
    ] = 0.8,
    token_lifetime_s: Annotated[
        float, typer.Option(metavar="S", help="How long an OAuth token is good.")
    ] = 3600.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="FAULT", help="A scripted fault, see the end; repeatable."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any field of EmulatorSettings; repeatable."
        ),
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Run a local AIP Agents server; its help is above, since it lists the kinds of faults."""
    try:
        settings = {
            "lifetime_s": lifetime_s,
            "create_latency_s": create_latency_s,
            "token_lifetime_s": token_lifetime_s,
            **dict(emulate.setting(text) for text in set_ or ()),
        }
        # The agent that is told of exists even where no other does (any_agent=no).
        known = {AGENT_RID: AgentSetup()}
        server = Emulator(listen=listen, faults=fault or (), agents=known, seed=seed, **settings)
    except ValueError as error:
        raise Wrong(str(error)) from error
    raise typer.Exit(asyncio.run(_emulator(server, listen, as_json=as_json)))


async def _emulator(server: Emulator, listen: str, *, as_json: bool) -> int:
    with stopping() as stop:
        try:
            await server.start()
        except OSError as error:
            raise Failed(emulate.refusal(listen, error)) from error
        await emulate.serve(server, stop, as_json=as_json)
        # Asked to end by a service manager is an end as any other; Ctrl-C is told to the shell.
        return 130 if stop.signal == signal.SIGINT else 0


@app.command()
def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="A configuration; else the one SESSION_POOL_CONFIG names."
        ),
    ] = None,
    store: Store = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Say what a configuration means, and where each value comes from.

    Arguments go over the environment, that goes over the file. Secrets are
    masked. Mistakes are told a line each, with the fix, and the exit code is
    2. Nothing is connected to.

    \b
    Examples:
      session-pool check
      session-pool check session-pool.toml
      session-pool check session-pool.toml --json | python -m json.tool
    """
    try:
        finding = checking.check(file, store=store, url=url)
    except ConfigError as error:
        if as_json:
            print(checking.mistakes_as_json(error), flush=True)
        raise Wrong(str(error)) from error
    if as_json:
        print(checking.as_json(finding))
    else:
        checking.show(finding, sys.stdout)


@app.command()
def lease(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="A listed name, or a RID.")],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND", help="What to run.")
    ] = None,
    conversation: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Its own session; without one, a never-used one."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="S", help="How long to wait for it; else the policy's 60 s."),
    ] = None,
    config: Config = None,
    store: Store = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Lease a live session, for a command or for yourself.

    With a command: runs it with SESSION_RID, SESSION_AGENT_RID and
    SESSION_IS_NEW (1, or 0 where the conversation spoke in it before) in its
    environment, passes signals on to it, and gives the session back when it
    ends. The exit code is the command's: 128 + n if signal n ended it, 127 if
    there is no such command, 126 if it may not be run. If the lease is lost
    meanwhile the command is terminated, and the exit code is 1. If this is
    killed (kill -9), so is the command, on Linux; what it started lives on.

    Without a command: prints the session's RID and holds the lease until end
    of input (Ctrl-D) or a signal.

    A session that was lent counts as used: afterwards it is retired, or kept
    for its conversation, as one exchange further. If a signal ended the
    command, the conversation waits until its last exchange must be over.

    \b
    Examples:
      session-pool lease orders --config session-pool.toml -- ./ask.sh
      session-pool lease orders --conversation slack:C42 -- ./ask.sh
      session-pool lease ri.aip-agents..agent.732cd5b4-... --json
      session-pool lease orders --store sqlite:///pool.db -- \\
        sh -c 'echo "$SESSION_RID"; sleep 60'
    """
    if command and as_json:
        raise Wrong("--json prints the lease, and a command prints its own; leave one of them away")
    wish = leasing.Wish(agent, conversation, timeout, tuple(command or ()), as_json)
    try:
        settings = load(config, store=store, url=url)
        leasing.check_command(wish.command)
        pool = leasing.pool_for(settings, wish)
    except ConfigError as error:
        raise refused(error) from error
    raise typer.Exit(asyncio.run(leasing.lease(pool, wish)))


orders.add_to(app)


@app.command()
def migrate(store: Store = None, config: Config = None, as_json: Json = False) -> None:
    """Bring a store's schema to this release, while no pool uses it.

    Needs no stack and no token: only where the state is kept.

    \b
    Examples:
      session-pool migrate --store sqlite:///pool.db
      session-pool migrate --config session-pool.toml
    """
    try:
        at = load_store(config, store=store)
        done = stores.migrate(at)
    except ConfigError as error:
        raise refused(error) from error
    except SessionPoolError as error:
        raise Failed(str(error)) from error
    print(json.dumps({"store": without_secrets(at), "done": done}) if as_json else done)
