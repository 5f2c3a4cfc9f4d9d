"""The remote side: the API as a protocol, the client that speaks it, tokens, and the budget."""

from session_pool.foundry.address import host_of
from session_pool.foundry.api import Api, Background, SessionPage
from session_pool.foundry.auth import Auth, ClientCredentials, StaticToken
from session_pool.foundry.budget import (
    INDIVIDUAL_USER,
    SERVICE_USER,
    Budget,
    BudgetSnapshot,
    Demand,
    Limits,
    Part,
    Urgency,
    preset_for,
)
from session_pool.foundry.client import FoundryClient
from session_pool.foundry.paced import Paced, Turn
from session_pool.foundry.quota import RESERVED
from session_pool.foundry.rid import check_agent_rid
from session_pool.foundry.secret import SecretFile
from session_pool.foundry.translate import ThrottledForGood

__all__ = [
    "Api",
    "Background",
    "SessionPage",
    "FoundryClient",
    "Auth",
    "StaticToken",
    "ClientCredentials",
    "SecretFile",
    "Budget",
    "BudgetSnapshot",
    "Demand",
    "Limits",
    "Part",
    "Urgency",
    "RESERVED",
    "INDIVIDUAL_USER",
    "SERVICE_USER",
    "preset_for",
    "Paced",
    "Turn",
    "ThrottledForGood",
    "check_agent_rid",
    "host_of",
]
