"""A fake OpenAI-compatible upstream that can misbehave at byte level; see `behaviours.TABLE` for what it can do.

    async with FakeUpstream() as up:
        client = AsyncOpenAI(base_url=up.url, api_key="x")

or `python -m loadtests.upstream --port 9000`. The model's name chooses the behaviour (`ok`, `cut`, `e429`, ...);
`+marks` makes the tokens time marks, `+echo` the user's own words (`ok+marks`, `cut+echo`; `marks` and `echo`
alone are `ok`). The last user message may carry `T=<tokens>`, `I=<µs between tokens>` and `B=<behaviour>`, which
goes before the model's name: so a fault can be asked for through a gateway that fixes the model.
"""

from loadtests.upstream.answer import Answer, RequestRecord
from loadtests.upstream.ask import Ask
from loadtests.upstream.behaviours import TABLE, UTF8_TAIL, Behaviour
from loadtests.upstream.server import FakeUpstream
from loadtests.upstream.shapes import HUGE, PROMPT_TOKENS, words

__all__ = [
    "HUGE",
    "PROMPT_TOKENS",
    "TABLE",
    "UTF8_TAIL",
    "Answer",
    "Ask",
    "Behaviour",
    "FakeUpstream",
    "RequestRecord",
    "words",
]
