"""This project as a system of the peers bench: name this file in RLM_KERNEL_ADAPTER and run the bench's `run.py`.

Every request goes through the public entry point; the model is the bench's own.
"""

from __future__ import annotations

import asyncio

from rlm_kernel import RLM, Completion, KernelSandbox, tool
from rlm_kernel.sandbox.isolation.policy import Limits

from .base import Adapter, BareEnvironment, Unsupported


class BenchModel:
    """The bench's scripted model behind the `Model` protocol."""

    name = "bench"

    def __init__(self, lm):
        self.lm = lm

    async def complete(self, request, on_delta=None):
        if request.kind == "sub":
            return Completion(await self.lm.asub(request.messages[0].content), "bench")
        texts = [request.system, *(m.content for m in request.messages)]
        return Completion(f"```repl\n{self.lm.root(texts)}\n```", "bench")

    async def close(self):
        pass


class RlmKernel(Adapter):
    """`%%rlm`'s Python entry point, with its default sandbox."""

    name = "rlm_kernel"

    def submit(self, expression):
        return f"SUBMIT(answer={expression})"

    def run(self, lm, context, *, tools=None, values=None, cell_timeout=None, llm_concurrency=None, max_depth=1):
        if max_depth > 1:
            raise Unsupported("no child runs yet")
        inputs = {"context": context, **(values or {})}
        options = {"tools": [tool(function, name=name) for name, function in (tools or {}).items()]}
        options |= {} if llm_concurrency is None else {"max_concurrency": llm_concurrency}
        if cell_timeout is not None:
            options["cell_timeout"] = cell_timeout
        model = BenchModel(lm)
        self.rlm = RLM(
            f"{', '.join(inputs)} -> answer",
            model=model,
            sub_model=model,
            max_iterations=len(lm.cells) + 2,
            max_llm_calls=100_000,
            max_errors=len(lm.cells) + 2,
            sandbox_output=64,  # the bench prints 50 MB
            **options,
        )
        try:
            # the peers' sandbox is up before their first model call, where the bench starts its clocks
            self.rlm.start()
            return self.rlm("Answer.", **inputs).answer
        finally:
            self.rlm.close()

    def bare_environment(self):
        sandbox = KernelSandbox(limits=Limits(output=64))
        loop = asyncio.new_event_loop()

        async def handler(method, params):
            raise NotImplementedError(method)

        loop.run_until_complete(sandbox.start(handler))

        def execute(code):
            out = []
            loop.run_until_complete(sandbox.execute(code, lambda chunk: out.append(chunk.text)))
            return "".join(out)

        def close():
            loop.run_until_complete(sandbox.shutdown())
            loop.close()

        return BareEnvironment(execute, close)
