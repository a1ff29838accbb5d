"""What anybody may ask of the grid over the control socket: what the daemon knows of it."""

from collections.abc import Callable, Mapping
from typing import Any

from monitor.runs import requests
from monitor.runs.control import Answer, Handler
from monitor.runs.protocol import Peer


def grid_operation(document: Callable[[], Mapping[str, Any]]) -> dict[str, Handler]:
    """`grid`: the document of `/api/v1/grid`, made of the published snapshot."""

    async def grid(_peer: Peer, request: Mapping[str, Any]) -> Answer:
        requests.parse(requests.Grid, request)
        return {"grid": dict(document())}

    return {"grid": grid}
