"""CometBFT's query language."""

from __future__ import annotations

import pytest

from devnet.event_query import parse
from hashfleet.errors import InvalidInput

EVENTS = {"tm.event": ["Tx"], "tx.hash": ["AB"], "tx.height": ["100005"], "a.b": ['{"attributeId":"3-5-14"}']}


@pytest.mark.parametrize(
    "query",
    [
        "tm.event='Tx'",
        "tm.event = 'Tx' AND tx.hash = 'AB'",
        "tx.height=100005",
        "tx.height>100004 AND tx.height<=100005",
        "a.b CONTAINS '5-14'",
        "a.b EXISTS AND tx.hash EXISTS",
    ],
)
def test_a_query_that_is_met_matches(query):
    assert parse(query).matches(EVENTS)


@pytest.mark.parametrize(
    "query",
    ["tm.event='NewBlock'", "tm.event='Tx' AND tx.hash='CD'", "tx.height<100005", "a.b CONTAINS '5-15'", "c.d EXISTS"],
)
def test_a_query_that_is_not_met_does_not_match(query):
    assert not parse(query).matches(EVENTS)


@pytest.mark.parametrize(
    "query", ["", "tm.event", "tm.event=Tx", "a='1' OR b='2'", "a='1' AND", "a>'x'", "a='1' b='2'", "a" * 513 + "='1'"]
)
def test_a_query_that_cannot_be_read_is_refused(query):
    with pytest.raises(InvalidInput):
        parse(query)
