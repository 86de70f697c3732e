"""An example of the `Sandbox` protocol: a virtual machine for each sandbox, made from a golden image and deleted again.

Written for Vers (https://docs.vers.sh/api-reference/introduction), whose API creates a machine from a commit, hands out
an ssh key and deletes it. It has been run against the stand-in of `test_vers.py` alone, not against the service. Copy
it and change it: for another provider only `_create`, `_reach` and `_delete` differ.

The golden image needs Python of the notebook's minor version with `ipykernel`, `cloudpickle` and the libraries that
the variables want (`pip install ipykernel cloudpickle numpy pandas`), this side needs `pip install sshpyk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec

from rlm_kernel import CellResult, KernelSandbox
from rlm_kernel.errors import SandboxError
from rlm_kernel.sandbox.base import Handler, OnChunk

API = "https://api.vers.sh/api/v1"
SSH = {
    "HostName": "{vm}.vm.vers.sh",
    "User": "root",
    "ProxyCommand": "openssl s_client -quiet -connect %h:%p -servername %h",
}
_BOOT_SECONDS = 60
_ASK_SECONDS = 30


class VersSandbox:
    """A `Sandbox` on a machine of its own.

    Args:
        commit: the golden image.
        key: of the API; without it `VERS_API_KEY` of the environment. It stays on this machine.
        python: the image's interpreter that has ipykernel.
        api: where the API is.
        ssh: lines of the ssh configuration; `{vm}` stands for the machine's id.
    """

    isolation = "in a virtual machine of its own, with the network that Vers gives it; rlm_kernel adds nothing"

    def __init__(
        self,
        commit: str,
        key: str | None = None,
        *,
        python: str = "/usr/bin/python3",
        api: str = API,
        ssh: Mapping[str, str] = SSH,
    ) -> None:
        self._commit, self._key, self._api, self._ssh = commit, key, api, ssh
        self._python = python
        self._folder: Path | None = None
        self._inner: KernelSandbox | None = None
        self._vm: str | None = None

    async def put(self, variables: Mapping[str, Any]) -> None:
        """Pack the variables; the machine is created by `start`."""
        await self._sandbox().put(variables)

    async def start(self, handler: Handler) -> None:
        """Create the machine unless there is one, and start a kernel on it."""
        inner = self._sandbox()
        try:
            if self._vm is None:
                await asyncio.to_thread(self._create)
            await inner.start(handler)
        except BaseException:
            if not inner.running:
                await self.shutdown()
            raise

    async def execute(self, code: str, on_chunk: OnChunk) -> CellResult:
        """Run a cell over there."""
        if self._inner is None:
            return CellResult("died")
        result = await self._inner.execute(code, on_chunk)
        if result.status == "died":
            await self.shutdown()
        return result

    async def interrupt(self) -> None:
        """Interrupt the cell."""
        if self._inner is not None:
            await self._inner.interrupt()

    async def shutdown(self) -> None:
        """End the kernel and delete the machine."""
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.shutdown()
        if self._vm is not None:
            await asyncio.to_thread(self._delete)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _sandbox(self) -> KernelSandbox:
        if self._inner is None:
            self._folder = Path(tempfile.mkdtemp(prefix="rlm-vm-"))
            stanza = {
                "provisioner_name": "sshpyk-provisioner",
                "config": {
                    "ssh_config": str(self._folder / "config"),
                    "ssh_host_alias": "vm",
                    "remote_python": self._python,
                    "remote_kernel_name": "python3",
                },
            }
            metadata = {"kernel_provisioner": stanza}
            self._inner = KernelSandbox(KernelSpec(argv=[], display_name="vers", language="python", metadata=metadata))
        return self._inner

    # -- the provider -----------------------------------------------------------------------------------------
    def _create(self) -> None:
        self._vm = str(self._ask("POST", "/vm/from_commit", {"commit_id": self._commit})["vm_id"])
        for _ in range(_BOOT_SECONDS * 2):
            if self._ask("GET", f"/vm/{self._vm}/status")["state"].lower() == "running":
                return self._reach(self._ask("GET", f"/vm/{self._vm}/ssh_key"))
            time.sleep(0.5)
        raise SandboxError(f"the machine {self._vm} did not boot in {_BOOT_SECONDS} s")

    def _reach(self, given: Mapping[str, Any]) -> None:
        folder = self._folder
        assert folder is not None
        (folder / "key").touch(0o600)
        (folder / "key").write_text(given["ssh_private_key"])
        lines = {name: line.format(vm=self._vm) for name, line in self._ssh.items()}
        lines |= {"Port": str(given["ssh_port"]), "IdentityFile": str(folder / "key"), "IdentitiesOnly": "yes"}
        lines |= {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(folder / "known"),
        }
        lines |= {
            "LogLevel": "ERROR",
            "ControlMaster": "auto",
            "ControlPath": str(folder / "c"),
            "ControlPersist": "60",
        }
        (folder / "config").write_text("Host vm\n" + "".join(f"  {name} {line}\n" for name, line in lines.items()))

    def _delete(self) -> None:
        vm, self._vm = self._vm, None
        if self._folder is not None and (self._folder / "config").exists():
            words = ["ssh", "-F", str(self._folder / "config"), "-O", "exit", "vm"]
            subprocess.run(words, capture_output=True, check=False, timeout=_ASK_SECONDS)
        self._ask("DELETE", f"/vm/{vm}")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        key = self._key or os.environ.get("VERS_API_KEY", "")
        request = urllib.request.Request(
            self._api + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with contextlib.closing(urllib.request.urlopen(request, timeout=_ASK_SECONDS)) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise SandboxError(f"{method} {path} failed at {self._api}: {error}") from None
