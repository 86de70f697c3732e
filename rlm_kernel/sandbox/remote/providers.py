"""Which of the ways to run a kernel is meant by what the user named."""

from __future__ import annotations

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from rlm_kernel.errors import InputError
from rlm_kernel.sandbox.handle import Provider
from rlm_kernel.sandbox.launch import check_kernelspec
from rlm_kernel.sandbox.remote.provisioned import LOCAL, Provisioned, provisioner_of

__all__ = ["check_sandbox", "provider_of"]


def provider_of(wanted: str | Provider | None) -> Provider | None:
    """Where the kernels of a sandbox come from; None for a process of this machine.

    Args:
        wanted: the name of a kernelspec, the address of a Jupyter server, or a provider.

    Raises:
        InputError: the address cannot be used.
    """
    if wanted is None or not isinstance(wanted, str):
        return wanted
    if _is_address(wanted):
        return _server(wanted)
    try:
        provisioner = provisioner_of(KernelSpecManager().get_kernel_spec(wanted))
    except (NoSuchKernel, ValueError):
        return None
    return None if provisioner == LOCAL else Provisioned(wanted)


def check_sandbox(name: str) -> None:
    """Find out that a sandbox of this name can be had, before anything is started.

    Raises:
        InputError: it cannot; the message says what is missing.
    """
    if _is_address(name):
        _server(name)
        return
    place = KernelSpecManager().find_kernel_specs().get(name)
    if place is None:
        check_kernelspec(name)
        return
    provisioner = provisioner_of(KernelSpec.from_resource_dir(place))
    if provisioner not in KernelProvisionerFactory.instance().provisioners:
        raise InputError(
            f"the kernelspec '{name}' wants the provisioner '{provisioner}', which is not installed in this Python"
        )


def _is_address(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def _server(address: str) -> Provider:
    from rlm_kernel.sandbox.remote.server import JupyterServer  # with it tornado's clients, which few need

    return JupyterServer(address)
