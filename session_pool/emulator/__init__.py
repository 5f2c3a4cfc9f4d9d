"""A local AIP Agents server, to develop and test against.

It speaks the whole session API (and the token endpoints) on loopback, in the running event loop,
and hence in virtual time where the loop is; it fails as scripted, and it counts what its clients
did. It imports nothing of the rest of the package, so that a misreading of the API in the client
is not shared here.
"""

from .agents import AgentSetup
from .audit import Audit
from .emulator import AGENT_RID, Emulator
from .errors import ERRORS, ErrorKind
from .exchanges import Ask, Reply, echo
from .faults import KINDS, Fault
from .operations import OPERATIONS, Operation
from .sessions import ExchangeRecord, SessionRecord
from .settings import EmulatorSettings, SettingRow, settings_markdown, settings_table
from .visits import Call
from .watch import Gate

__all__ = [
    "Emulator",
    "AGENT_RID",
    "AgentSetup",
    "Ask",
    "Reply",
    "echo",
    "Fault",
    "KINDS",
    "ERRORS",
    "ErrorKind",
    "OPERATIONS",
    "Operation",
    "Audit",
    "Call",
    "SessionRecord",
    "ExchangeRecord",
    "Gate",
    "EmulatorSettings",
    "SettingRow",
    "settings_table",
    "settings_markdown",
]
