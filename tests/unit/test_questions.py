"""Questions to a child: what it owes an answer for is bounded, whoever has given up waiting."""

import asyncio

import pytest

from certeusd.channel import Answer, AskLetters
from certeusd.letters import NoAnswerError
from certeusd.supervisor.questions import OPEN_MAX, Questions

ASK = AskLetters(0, "list", 1, 2)


def test_a_child_that_does_not_answer_is_asked_no_more_than_its_channel_holds() -> None:
    async def scenario() -> None:
        questions, sent = Questions(), list[AskLetters]()

        def send(ask: AskLetters) -> bool:
            sent.append(ask)
            return True

        for _ in range(OPEN_MAX):
            with pytest.raises(NoAnswerError, match="has not answered"):
                await questions.ask(send, ASK, within_s=0.001)
        with pytest.raises(NoAnswerError, match="are open"):
            await questions.ask(send, ASK, within_s=0.001)
        assert len(sent) == OPEN_MAX
        questions.answered(Answer(sent[0].number, "late"), [])
        with pytest.raises(NoAnswerError, match="has not answered"):
            await questions.ask(send, ASK, within_s=0.001)
        questions.forget()
        with pytest.raises(NoAnswerError, match="has not answered"):
            await questions.ask(send, ASK, within_s=0.001)

    asyncio.run(scenario())


def test_a_question_that_could_not_be_sent_is_owed_by_nobody() -> None:
    async def scenario() -> None:
        questions = Questions()
        for _ in range(OPEN_MAX + 1):
            with pytest.raises(NoAnswerError, match="no flusher"):
                await questions.ask(lambda _: False, ASK)

    asyncio.run(scenario())
