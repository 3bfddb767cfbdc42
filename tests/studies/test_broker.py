"""The queue's broker: first come, first served, sweepers first, and nobody gets what another is taking."""

import datetime

import pytest
from django.conf import settings
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import OrmQ
from django_q.signing import SignedPackage
from django_q.tasks import async_task

from studies.broker import FairBroker, oldest_message_sent_at

pytestmark = pytest.mark.django_db


@pytest.fixture
def broker() -> FairBroker:
    found = get_broker()
    assert isinstance(found, FairBroker)
    return found


def taken(broker: FairBroker) -> list[str]:
    """What is handed out next, by its argument or its name."""
    tasks = [SignedPackage.loads(payload) for _, payload in broker.dequeue()]
    return [task["args"][0] if task["args"] else task["func"] for task in tasks]


def test_messages_are_handed_out_in_the_order_they_came_each_once(broker: FairBroker) -> None:
    for number in "abc":
        async_task("builtins.print", number)
    assert [taken(broker) for _ in range(4)] == [["a"], ["b"], ["c"], []]


def test_sweepers_pass_a_long_queue(broker: FairBroker) -> None:
    async_task("builtins.print", "a slice")
    sweeper = next(iter(settings.SWEEPERS))
    async_task(sweeper)
    assert taken(broker) == [sweeper]
    assert taken(broker) == ["a slice"]


def test_what_was_never_acknowledged_comes_back_and_what_was_does_not(broker: FairBroker) -> None:
    for number in "ab":
        async_task("builtins.print", number)
    ((first, _),) = broker.dequeue()
    ((second, _),) = broker.dequeue()
    broker.acknowledge(second)
    OrmQ.objects.update(lock=timezone.now() - datetime.timedelta(seconds=1))
    assert [pk for pk, _ in broker.dequeue()] == [first]
    assert broker.dequeue() == []


def test_the_oldest_message_counts_also_while_it_is_handed_out(broker: FairBroker) -> None:
    assert oldest_message_sent_at() is None
    before = timezone.now()
    async_task("builtins.print", "a")
    between = timezone.now()
    async_task("builtins.print", "b")
    broker.dequeue()
    oldest = oldest_message_sent_at()
    assert oldest is not None
    assert before <= oldest <= between
