"""Weights are fetched several times with growing pauses, where the network may be the cause, and then given up."""

import pytest

from ml.errors import PreparationError
from ml.fetching import ATTEMPTS, LONGEST_PAUSE_S, fetched, pause_before


class Server:
    """Fails so many times, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "weights"


def test_it_tries_again_with_growing_pauses() -> None:
    pauses: list[float] = []
    server = Server(ConnectionError("gone"), Exception("URL fetch failure"), TimeoutError())
    assert fetched(server, what="The weights", sleep=pauses.append) == "weights"
    assert server.asked == 4
    assert 1 <= pauses[0] <= 2 <= pauses[1] <= 4 <= pauses[2] <= 8


def test_it_gives_up_in_a_sentence_that_says_what_to_do() -> None:
    server = Server(*[OSError("gone")] * 99)
    with pytest.raises(PreparationError, match=rf"^The weights could not be fetched in {ATTEMPTS} attempts\. Check"):
        fetched(server, what="The weights", sleep=lambda pause_s: None)
    assert server.asked == ATTEMPTS


def test_an_error_of_our_own_is_not_repeated() -> None:
    server = Server(KeyError("a mistake"))
    with pytest.raises(KeyError):
        fetched(server, what="The weights", sleep=lambda pause_s: None)
    assert server.asked == 1


def test_pauses_are_bounded() -> None:
    assert all(pause_before(attempt) <= LONGEST_PAUSE_S for attempt in range(1, 40))
