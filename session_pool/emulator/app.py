"""The web application: routes, and nothing else.

Everything under a path that the contract has not is an empty 404, as of an API that is not on the
stack (contract section 5).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from .operations import OPERATIONS, Operation

Handle = Callable[[Operation, web.Request], Awaitable[web.StreamResponse]]


def build_app(handle: Handle) -> web.Application:
    """The application that gives each request, with its operation, to `handle`."""
    app = web.Application()
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, _bound(handle, operation))
    app.router.add_route("*", "/{anything:.*}", _not_here)
    return app


def _bound(
    handle: Handle, operation: Operation
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        return await handle(operation, request)

    return serve


async def _not_here(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=404)
