"""A parent process that a test kills: it starts the embedded model and prints the pid of the model's process.

`wait` keeps it running. `share` also leaves a grandchild that holds our end of the pipe. `early` prints before the
model has loaded. `thread` runs its event loop in a thread that ends without closing anything.
"""

import asyncio
import os
import sys
import threading
import time

from gateway.chat.upstreams.local import Child, LocalModel


async def start_model() -> LocalModel:
    model = LocalModel()
    await model.endpoint()
    print(model.pid, flush=True)
    return model


async def wait(mode: str) -> None:
    if mode == "early":
        child = await Child.spawn()
        print(child.pid, flush=True)
        await child.ready(LocalModel.model_name)
    else:
        model = await start_model()
        if mode == "share":
            share()
        assert model.pid
    await asyncio.sleep(60)


def share() -> None:
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    print("shared", flush=True)


def main(mode: str) -> None:
    if mode == "thread":
        models: list[object] = []
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=lambda: models.append(loop.run_until_complete(start_model())))
        thread.start()
        thread.join()
        print("thread ended", flush=True)
        time.sleep(60)
    asyncio.run(wait(mode))


if __name__ == "__main__":
    main(sys.argv[1])
