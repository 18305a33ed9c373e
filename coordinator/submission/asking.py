"""Asks the chain several things at the same time, and waits for the answers no longer than is good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from hashfleet.errors import ChainError, ChainUnavailable, KeyProblem

_KeyT = TypeVar("_KeyT")
_AnswerT = TypeVar("_AnswerT")


async def ask_each(
    questions: Mapping[_KeyT, Callable[[], Awaitable[_AnswerT]]], *, at_once: int, seconds: float
) -> dict[_KeyT, _AnswerT | ChainError | KeyProblem]:
    """What came of each question, asked in their order, so many at once; none is waited for after so many seconds.

    A question that fails keeps no other from its answer. Raises whatever is no failure of a chain or of a key.
    """
    answers: dict[_KeyT, _AnswerT | ChainError | KeyProblem] = {
        key: ChainUnavailable(f"no answer within {seconds:g} s") for key in questions
    }
    gate = asyncio.Semaphore(at_once)

    async def ask(key: _KeyT, question: Callable[[], Awaitable[_AnswerT]]) -> None:
        async with gate:
            try:
                answers[key] = await question()
            except (ChainError, KeyProblem) as error:
                answers[key] = error

    asked = [asyncio.ensure_future(ask(key, question)) for key, question in questions.items()]
    if not asked:
        return answers
    try:
        done, _ = await asyncio.wait(asked, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for one in done:
            one.result()
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    return answers
