"""What is peculiar to kernels of a provisioner, tried with sshpyk and this machine's own ssh daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpec

from rlm_kernel.errors import InputError, SandboxError
from rlm_kernel.sandbox.kernel import KernelSandbox
from rlm_kernel.sandbox.remote.providers import check_sandbox
from rlm_kernel.sandbox.remote.provisioned import Provisioned
from tests.sandbox.lab import lab
from tests.sandbox.remote.places import Sshd
from tests.sandbox.remote.test_remote import folders

_WAITS = "import time\nprint('ready', flush=True)\nfor _ in range(30): time.sleep(0.1)\nx = 5\nprint({})"


def _installed(spec: KernelSpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    place = folder / "kernels" / "box"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec.to_dict()))
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    return "box"


def test_an_installed_kernelspec_by_name(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is enough; what is promised names the provisioner and no more; it leaves nothing, here or there."""
    before, there = folders(), sshd.kernels()
    name = _installed(sshd.kernelspec(), tmp_path, monkeypatch)
    check_sandbox(name)
    sandbox = KernelSandbox(name)
    assert sandbox.isolation == (
        "as the kernelspec 'box' runs it, by the provisioner 'sshpyk-provisioner'; rlm_kernel adds nothing"
    )
    with lab(sandbox) as made:
        made.put(n=41)
        assert made.say("n + 1") == "42"
        assert len(sshd.kernels()) == len(there) + 1
    assert sshd.kernels() == there
    assert folders() == before


def test_the_environment_over_there_is_not_ours(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the notebook's environment is not in the kernel's."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-secret-of-the-tests")
    with lab(KernelSandbox(Provisioned(sshd.kernelspec()))) as made:
        made.start()
        assert made.say("'a-secret-of-the-tests' in str(__import__('os').environ)") == "False"


def test_a_cell_that_ends_while_the_connection_is_broken(sshd: Sshd) -> None:
    """It is opened again; the cell ends with an error that says what is lost, and its variables are there."""
    with lab(KernelSandbox(Provisioned(sshd.kernelspec()))) as made:
        made.start()
        running = made.begin(_WAITS.format("'done'").replace("range(30)", "range(3)"))
        sshd.cut()
        ran = made.outcome(running)
        assert ran.status == "error"
        assert "the connection to the sandbox broke while this cell ran" in ran.text("error")
        assert made.say("x") == "5"


def test_a_cell_that_goes_on_after_the_connection_broke(sshd: Sshd) -> None:
    """It may still print and ask."""
    with lab(KernelSandbox(Provisioned(sshd.kernelspec()))) as made:
        made.start()
        running = made.begin(_WAITS.format("llm_query('a')"))
        sshd.cut()
        ran = made.outcome(running)
        assert (ran.status, ran.text("stdout")) == ("ok", "ready\nA\n")


def test_a_sub_call_that_was_lost_is_made_again(sshd: Sshd) -> None:
    """One that is asked while the connection is broken is asked again; one that was served costs nothing twice."""
    with lab(KernelSandbox(Provisioned(sshd.kernelspec()))) as made:
        made.start()
        running = made.begin("print('ready', flush=True)\nimport time\ntime.sleep(0.5)\nx = llm_query('a')")
        sshd.cut()
        assert made.outcome(running).status in ("ok", "error")  # its end may come with or without its output
        assert made.say("x") == "A"
        assert [params["prompts"] for _, params in made.asked] == [["a"]]


def test_no_way_in(sshd: Sshd, tmp_path: Path) -> None:
    """A machine that cannot be reached is one clear error, and nothing is left here."""
    before = folders()
    config = tmp_path / "config"
    config.write_text(sshd.config.read_text().replace(str(sshd.port), "1"))
    with lab(KernelSandbox(Provisioned(sshd.kernelspec(ssh_config=str(config), launch_timeout=5)))) as made:
        with pytest.raises(SandboxError, match=r"kernelspec 'box' did not start: .*connect") as caught:
            made.start()
        assert len(str(caught.value).splitlines()) == 1
    assert folders() == before


def test_a_provisioner_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it, before anything is started."""
    stanza = {"kernel_provisioner": {"provisioner_name": "moon-provisioner"}}
    spec = KernelSpec(argv=[], display_name="box", language="python", metadata=stanza)
    name = _installed(spec, tmp_path, monkeypatch)
    with pytest.raises(InputError, match="kernelspec 'box' wants the provisioner 'moon-provisioner', which is not"):
        check_sandbox(name)
