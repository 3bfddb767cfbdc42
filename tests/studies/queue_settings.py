"""Settings of the test that kills workers: as in the suite, but with times so short that one can wait for them."""

from portal.settings.test import *  # noqa: F403 - a settings layer is the one below plus its own lines
from portal.settings.test import Q_CLUSTER

# timeout + 3 < lease < retry, as portal.checks demands.
ANALYSIS_TIMEOUT_S = 5
ANALYSIS_LEASE_S = 9
ANALYSIS_REQUEUE_AFTER_S = 9
Q_CLUSTER = Q_CLUSTER | {"workers": 2, "timeout": 5, "retry": 11, "poll": 0.1}
