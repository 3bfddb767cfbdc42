"""PostgreSQL as the production database: how connections are made, kept, and not shared with forked processes."""

from typing import Any, Final

from django.db import connections

# A machine that vanishes without a word is noticed within half a minute, not after the kernel's quarter of an hour.
_NOTICE_SILENCE: Final[dict[str, Any]] = {
    "connect_timeout": 5,  # seconds
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
# Connections of the parent, kept for ever in a forked process: closing one would hang up on the parent.
_inherited: list[Any] = []


def postgres_options(*, pool_size: int, pool_min: int, pool_wait_s: float) -> dict[str, Any]:
    """Return the options of a PostgreSQL database: a pool of at most ``pool_size`` connections a process, 0 for none.

    ``pool_wait_s`` is how many seconds a request waits for a connection while all are in use or the server is away.
    """
    if not pool_size:
        return dict(_NOTICE_SILENCE)
    pool = {"min_size": min(pool_min, pool_size), "max_size": pool_size, "timeout": pool_wait_s}
    return _NOTICE_SILENCE | {"pool": pool}


def forget_inherited_connections() -> None:
    """Give a forked process connections of its own; called in the child, right after the fork.

    The queue forks its workers from a process that has used the database. A pool's threads do not live on in the child,
    its connections would be used by both, and two who talk on one line get each other's answers.
    """
    for connection in connections.all(initialized_only=True):
        if connection.vendor != "postgresql":
            continue
        pools: dict[str, Any] = type(connection)._connection_pools  # type: ignore[attr-defined]
        _inherited.extend([connection, connection.connection, *pools.values()])
        pools.clear()
        del connections[connection.alias]
