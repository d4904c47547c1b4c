"""Prints what LangChain and LiteLLM raise, for each base URL, by client, way and model: `python_errors.py ORDER`.

The order is JSON: `{"bases": [...], "models": [...]}`. It runs by itself, because both warn a lot and are slow to load.
"""

import json
import os
import sys
from collections.abc import Callable

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it fetches a file from the internet when it is loaded

import litellm
from langchain_openai import ChatOpenAI

MESSAGES = [{"role": "user", "content": "T=4 I=0"}]


def langchain(base: str, model: str, stream: bool) -> None:
    chat = ChatOpenAI(model=model, base_url=base, api_key="x", timeout=20, max_retries=0)  # type: ignore[arg-type]  # as its documents do
    list(chat.stream(MESSAGES)) if stream else chat.invoke(MESSAGES)


def lite(base: str, model: str, stream: bool) -> None:
    answer = litellm.completion(
        model=f"openai/{model}", api_base=base, api_key="x", messages=MESSAGES, stream=stream, timeout=20, max_retries=0
    )
    list(answer) if stream else None


def raised(ask: Callable[[str, str, bool], None], base: str, model: str, stream: bool) -> dict[str, object] | None:
    try:
        ask(base, model, stream)
    except Exception as err:
        names = ("status_code", "code", "type", "param", "body")
        return {"class": type(err).__name__, **{name: getattr(err, name, None) for name in names}}
    return None


def main(order: str) -> None:
    plan = json.loads(order)
    litellm.suppress_debug_info = True
    answers = [
        {
            f"{name} {'streamed' if stream else 'whole'} {model}": raised(ask, base, model, stream)
            for name, ask in (("langchain", langchain), ("litellm", lite))
            for stream in (False, True)
            for model in plan["models"]
        }
        for base in plan["bases"]
    ]
    print(json.dumps(answers, default=str))


if __name__ == "__main__":
    main(sys.argv[1])
