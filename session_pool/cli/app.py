"""The commands: their words, options and exit codes. What they do stands in the rooms beside this.

Errors are one line on stderr; 1 is a failure, 2 is wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from typing import Annotated, Final, cast

import typer

from session_pool import SessionPoolError
from session_pool.cli import demo as demonstration
from session_pool.cli import emulate
from session_pool.cli.screen import SilentScreen, screen_for
from session_pool.cli.stopping import stopping
from session_pool.emulator import AGENT_RID, AgentSetup, Emulator

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


class Wrong(Exception):
    """Wrong usage, in words of one line."""


class Failed(Exception):
    """A failure, in words of one line."""


def run() -> int:
    """Run the command line, and say which code to exit with."""
    try:
        return int(app(prog_name="session-pool", standalone_mode=False) or 0)
    except _USAGE as error:
        told = error.format_message() if hasattr(error, "format_message") else str(error)
        return _tell(told, 2)
    except Wrong as error:
        return _tell(str(error), 2)
    except Failed as error:
        return _tell(str(error), 1)
    except typer.Abort:
        return 130
    except BrokenPipeError:
        # Who read the output has gone; nor is there anybody to complain to when Python flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _tell(message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"session-pool: {line}", file=sys.stderr)
    return code


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Live, exclusively leased conversation sessions of Foundry's AIP Agents.

    Example: session-pool demo
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Seed = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Of all chances; a fresh one if not given.")
]


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
            await emulate.serve(server, stop, as_json=as_json)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failed(emulate.refusal(listen, error)) from error
        # Asked to end by a service manager is an end as any other; Ctrl-C is told to the shell.
        return 130 if stop.signal == signal.SIGINT else 0
