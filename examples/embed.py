"""Look into a running application and change it: a kernel beside its event loop.

Run it: ``python examples/embed.py``, and type the line that it prints into another terminal.  There, try

    app.visitors                        # what the application is doing
    app.pause = 0.1                     # hot-patch it
    print("only in the console")        # the application's stdout stays its own
    await app.ask(app.greet("you"))     # run a coroutine in the application's loop, await it in the kernel's
    app.leave()                         # and end it, in its own thread

The application's main thread never waits for the console, and Ctrl-C is the application's.
"""

import asyncio

import minikernel


class App:
    """Greets a visitor every now and then."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.left = asyncio.Event()
        self.pause = 2.0
        self.visitors = 0

    async def greet(self, name: str) -> str:
        self.visitors += 1
        return f"hello {name}, you are number {self.visitors}"

    async def run(self) -> None:
        while not self.left.is_set():
            print(await self.greet("visitor"), flush=True)
            try:
                await asyncio.wait_for(self.left.wait(), self.pause)
            except asyncio.TimeoutError:
                pass

    def ask(self, coroutine):  # type: ignore[no-untyped-def]
        """Have the application's loop run a coroutine; any thread's code may await what this returns."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def leave(self) -> None:
        self.loop.call_soon_threadsafe(self.left.set)


async def main() -> None:
    app = App()
    with minikernel.start({"app": app}) as kernel:
        print(kernel.command, flush=True)
        await app.run()
    print(f"{app.visitors} visitors", flush=True)

    # What is still missing: a lock.  Code from the console runs in another thread than the application's, and what
    # both change needs the care that threads need.


if __name__ == "__main__":
    asyncio.run(main())
